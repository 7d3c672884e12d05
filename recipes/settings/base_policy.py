"""Flags of the model that a warm start teaches."""

from dataclasses import dataclass, field

from recipes.settings.arguments import BackupArguments


@dataclass
class BasePolicyArguments(BackupArguments):
    """What is taught: a model of the Hub's by default, else one that is built here.

    Args:
        from_scratch (`bool`): build the tiny policy (`recipes/policy/tiny.py`).
        from_embedded (`bool`): take the embedded executor's model.
        vocab_size, hidden_size, num_layers (`int`): of the tiny policy; `initializer_range` (`float`) and
            `copying_attention` (`float`) too.
        untie_embeddings (`bool`): save it with an output layer of its own.
    """

    from_scratch: bool = field(default=False, metadata={"help": "Build the tiny policy instead of loading a model."})
    from_embedded: bool = field(
        default=False, metadata={"help": "Start from the embedded executor's SmolLM2-135M-Instruct."}
    )
    vocab_size: int = field(default=1024, metadata={"help": "Vocabulary of the tiny policy."})
    hidden_size: int = field(default=192, metadata={"help": "Width of the tiny policy."})
    num_layers: int = field(default=4, metadata={"help": "Layers of the tiny policy."})
    initializer_range: float = field(default=0.02, metadata={"help": "Spread of the tiny policy's first weights."})
    copying_attention: float = field(
        default=0.0,
        metadata={
            "help": "How much of what it attends to a head of the tiny policy passes on unchanged at first; 0 for "
            "random weights."
        },
    )
    untie_embeddings: bool = field(
        default=False, metadata={"help": "Save the policy with an output layer of its own, which an adapter may train."}
    )

    def __post_init__(self) -> None:
        if self.copying_attention < 0:
            raise ValueError(f"copying_attention={self.copying_attention} must not be negative")
        if self.from_scratch and self.from_embedded:
            raise ValueError("from_scratch and from_embedded exclude each other")
        if self.untie_embeddings and not (self.from_scratch or self.from_embedded):
            raise ValueError("untie_embeddings is for a policy that is built here: from_scratch or from_embedded")
