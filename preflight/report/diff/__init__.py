"""Two runs compared, in every form that a person or a program asks for."""
