"""Regular expressions that users write or events bring: RE2, whose time grows with the text alone, at a known price."""

from __future__ import annotations

import re2

MAX_PATTERN = 500
#: RE2's own bound: a pattern that needs more is none.
_MEMORY = 1 << 20
#: How many characters times steps of a pattern RE2 does in a microsecond at its slowest.
_STEPS = 200
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False
_OPTIONS.max_mem = _MEMORY


class Pattern:
    """A pattern that is ready for use."""

    def __init__(self, text: str) -> None:
        """Read a pattern; raise ValueError with the reason for a text that is none or too much."""
        if len(text) > MAX_PATTERN:
            raise ValueError(f"must have at most {MAX_PATTERN} characters")
        try:
            self._compiled = re2.compile(text, options=_OPTIONS)
        except (re2.error, UnicodeError) as cause:
            raise ValueError(f"must be a regular expression of RE2: {_reason(cause)}") from cause
        self._steps: int = self._compiled.programsize

    def price(self, text: str) -> int:
        """Return what a look at a text costs at most, in values looked at."""
        return 1 + len(text) * self._steps // _STEPS

    def is_in(self, text: str) -> bool:
        """Tell whether it matches somewhere in a text."""
        return self._compiled.search(text) is not None

    def is_all(self, text: str) -> bool:
        """Tell whether it matches a text from end to end."""
        return self._compiled.fullmatch(text) is not None


def _reason(cause: Exception) -> str:
    said = cause.args[0] if cause.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
