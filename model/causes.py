"""What went wrong, for a sentence that says what to do about it."""


def first_line(error: BaseException) -> str:
    """What an error says in one line; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
