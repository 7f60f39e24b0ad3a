"""What commands do, a file each: from what they are given to what a report tells."""
