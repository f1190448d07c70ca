"""Every way a run can end badly, each with a stable code and a message that says what to do."""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """A fault that people can act on. `code` is stable; the message names the field, what was given and the remedy."""

    code: ClassVar[str] = "engine_error"


class FieldRefused(ValueError):
    """What a rule over several fields has against one of them; `field` is its path below the object that the rule belongs to."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class ConfigInvalid(EngineError):
    """The run's settings cannot be carried out, whatever the data. `field`: the path of the one at fault, where there is one."""

    code = "validation_error"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RunDirectoryMismatch(EngineError):
    """The output directory holds a run with other settings or other data."""

    code = "run_directory_mismatch"


class DatasetInvalid(EngineError):
    """The data cannot be read, or too many rows are bad."""

    code = "invalid_dataset"


class ModelNotFound(EngineError):
    """No such model on the hub or in the operator's folders."""

    code = "model_not_found"


class UnsafeModelFormat(EngineError):
    """The model has no safetensors weights, or needs code of its own."""

    code = "unsafe_model_format"


class UnsupportedModel(EngineError):
    """The architecture is not a causal decoder that this engine can train."""

    code = "unsupported_model"


class VocabularyMismatch(EngineError):
    """Teacher and student map some token to different ids."""

    code = "tokenizer_mismatch"


class HubUnavailable(EngineError):
    """The hub did not answer within the bounded retries."""

    code = "hub_unavailable"


class NothingToLearn(EngineError):
    """No step of the plan has a gradient (METHOD: alpha = 0 and t = 1 throughout, or no supervised token). `field`: the one to mend."""

    code = "no_gradient"

    def __init__(self, message: str, *, field: str = "alpha") -> None:
        super().__init__(message)
        self.field = field


class NothingToCompare(EngineError):
    """No run of a comparison has finished, or those that have scored no test row in common."""

    code = "nothing_to_compare"


class Diverged(EngineError):
    """The loss or a gradient stopped being finite."""

    code = "diverged"


class OutOfDeviceMemory(EngineError):
    """The accelerator's memory did not suffice even at a micro-batch of one."""

    code = "out_of_memory"


class ResourcesUnavailable(EngineError):
    """The machine has fewer devices than the run asks for, or the run was started on another number of processes."""

    code = "resources_unavailable"


class SandboxUnavailable(EngineError):
    """Programs of a model's were to be run, and there is no sandbox that confines them."""

    code = "sandbox_unavailable"


class JudgeUnavailable(EngineError):
    """The judge's endpoint refuses to be asked, or has stopped answering; what it had said is kept."""

    code = "judge_unavailable"


class StorageFull(EngineError):
    """The disk is full; the last sealed checkpoint is intact."""

    code = "insufficient_storage"


class CheckpointCorrupt(EngineError):
    """A sealed directory does not match its manifest."""

    code = "checkpoint_corrupt"


class StopRequested(Exception):
    """`should_stop()` answered yes; the run has sealed what it had and can be resumed."""
