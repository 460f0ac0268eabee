"""Everything that this project raises on purpose, one tree.

    ClassifierError
    ├── InvalidInput                 the caller's text or option is wrong
    │   ├── BlankText                nothing but white space
    │   ├── TextTooLong              more tokens than the model reads, and truncation was refused
    │   ├── UnencodableText          lone surrogates: no UTF-8 text
    │   ├── InvalidOption            top_k beyond the number of labels
    │   └── InvalidRecord            a line of a file that holds no text
    ├── Overloaded                   too much work at once; the same request may succeed later
    │   ├── QueueFull                as many requests wait as are allowed to
    │   └── DeadlineExceeded         the request's time was up before its answer
    ├── ModelUnavailable             its directory is missing, altered or unfit, or it still loads
    ├── InferenceFailed              the engine failed on sound input: a defect of ours
    ├── InputUnreadable              no such file, broken gzip, a CSV without a text column
    └── SettingsError                an environment variable holds what is not accepted

Each class has a `code`: stable, for programs. Its message is for people and never holds a text.
May import: nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar


class ClassifierError(Exception):
    """The root of the tree."""

    code: ClassVar[str] = "error"


class InvalidInput(ClassifierError):
    code = "invalid_input"

    def fields(self) -> dict[str, Any]:
        """The error as JSON has it where a prediction would stand: in batches and in files."""
        return {"error": {"code": self.code, "detail": str(self)}}


class BlankText(InvalidInput):
    code = "blank_text"


class TextTooLong(InvalidInput):
    code = "text_too_long"


class UnencodableText(InvalidInput):
    code = "unencodable_text"


class InvalidOption(InvalidInput):
    code = "invalid_option"


class InvalidRecord(InvalidInput):
    code = "invalid_record"


class Overloaded(ClassifierError):
    code = "overloaded"


class QueueFull(Overloaded):
    code = "queue_full"


class DeadlineExceeded(Overloaded):
    code = "deadline_exceeded"


class ModelUnavailable(ClassifierError):
    code = "model_unavailable"


class InferenceFailed(ClassifierError):
    code = "inference_failed"


class InputUnreadable(ClassifierError):
    code = "input_unreadable"


class SettingsError(ClassifierError):
    code = "invalid_setting"
