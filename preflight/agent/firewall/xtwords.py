"""Rules in iptables' words, as `iptables -S` and `iptables-save` write them."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def split(line: str) -> "list[str]":
    """The words of a line: blanks between them, double quotes around some, backslashes in those."""
    out = []
    word: "str | None" = None
    quoted = escaped = False
    for letter in line:
        if escaped:
            word, escaped = (word or "") + letter, False
        elif letter == "\\":
            escaped = True
        elif letter == '"':
            word, quoted = word or "", not quoted
        elif letter in " \t" and not quoted:
            if word is not None:
                out.append(word)
            word = None
        else:
            word = (word or "") + letter
    if word is not None:
        out.append(word)
    return out


def option(words: "Sequence[str]", *names: str) -> str:
    """What follows the first of these options, "" where none is there."""
    for name, value in zip(words, words[1:]):
        if name in names:
            return value
    return ""
