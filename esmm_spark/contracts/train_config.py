"""The sections of the config that say what is trained and how."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from esmm_spark.contracts.losses import PRESETS, Sharing, Space
from esmm_spark.contracts.objective import LISTED
from esmm_spark.contracts.section import RunId, Section

# The smallest normal one: below it digits are lost, and some kernels take it for 0.
_SMALLEST, _LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127


def _in_range(value: float) -> float:
    if value != 0 and not _SMALLEST <= abs(value) <= _LARGEST:
        raise ValueError(f"it must lie between {_SMALLEST:.3g} and {_LARGEST:.3g}, what float32 can hold")
    return value


Float32 = Annotated[float, AfterValidator(_in_range)]


def _require_finite_ratio(learning_rate: float, eps: float) -> None:
    """Raises ValueError if a row without a gradient so far would step by infinity times 0, which is NaN."""
    if learning_rate / eps > _LARGEST:
        raise ValueError(
            f"embedding_learning_rate / embedding_eps = {learning_rate:g} / {eps:g} is infinite in float32, "
            f"which holds {_LARGEST:.3g}: raise embedding_eps"
        )


def _objective(name: str) -> str:
    if name not in (*PRESETS, LISTED) and not all(name.partition(":")):
        raise ValueError(
            f"it is no objective: allowed are {', '.join(PRESETS)}, or a function of your own as "
            "package.module:function"
        )
    return name


RowOptimizerName = Literal["rowwise_adagrad", "adam", "sgd"]
Backend = Literal["horovod", "torch"]
ReaderName = Literal["petastorm", "arrow"]


class Model(Section):
    """The model."""

    network: Annotated[
        str,
        Field(
            description="`mlp` or `dcn`, one for each head; `mmoe`, `ple`, `aitm` or `din`, one for all "
            "heads; or a class of your own as `package.module:Class`."
        ),
    ] = "mlp"
    network_options: Annotated[
        dict[str, Any],
        Field(
            description="More keyword arguments of the network's class, e.g. `{cross_layers: 2}`; "
            "docs/networks.md has them."
        ),
    ] = {}
    objective: Annotated[
        str,
        AfterValidator(_objective),
        Field(
            description="The terms of the loss: "
            + ", ".join(f"`{name}`" for name in PRESETS)
            + "; `terms`, which need not be set, where `losses` lists them; or a function of your own as "
            "`package.module:function`."
        ),
    ] = "esmm"
    embedding: Annotated[
        Sharing | None,
        Field(
            description="Whether all heads read one embedding or each its own, which makes the arena as many "
            "times as large; by default the objective's: `separate` for `base`, `esmm_ns`, `aman`, "
            "`oversampling`, `unbias` and `division`, else `shared`."
        ),
    ] = None
    head_space: Annotated[
        Space | None,
        Field(
            description="What a task's logit is of: its probability `given` its parent, or in the `entire` "
            "space, divided by the parent's to get the former; by default the objective's: `entire` for "
            "`division`, else `given`."
        ),
    ] = None
    extra_heads: Annotated[
        int, Field(ge=0, le=100, description="Logits beside the tasks', for a function of your own.")
    ] = 0
    dim: Annotated[int, Field(ge=1, le=1024, description="Dimensions of an embedding row.")] = 12
    hidden_units: Annotated[
        list[Annotated[int, Field(ge=1)]], Field(description="Widths of a tower's hidden layers.")
    ] = [
        200,
        80,
    ]
    activation: Annotated[Literal["relu", "prelu"], Field(description="Activation of the hidden layers.")] = (
        "prelu"
    )
    embedding_init: Annotated[
        Float32, Field(ge=0, description="Embedding rows start uniform in [-embedding_init, embedding_init].")
    ] = 0.01


class Train(Section):
    """Training."""

    batch_size: Annotated[
        int, Field(ge=1, description="Impressions of a global batch: of one step, over all ranks.")
    ] = 4096
    epochs: Annotated[int, Field(ge=1, description="Passes over the training partition.")] = 2
    learning_rate: Annotated[Float32, Field(gt=0, description="AdamW's, for the dense part.")] = 1e-3
    weight_decay: Annotated[
        Float32,
        Field(
            ge=0,
            description="AdamW's, decoupled: each step multiplies the dense part's matrices by 1 - the "
            "learning rate x this; biases, the gains of normalisation and PReLU's slopes don't decay.",
        ),
    ] = 0.0
    gradient_clip_norm: Annotated[
        Float32 | None,
        Field(
            gt=0,
            description="Scale the dense part's gradients of a step, summed over all ranks, down to this L2 "
            "norm of all of them together; by default they stay as they are. Embedding rows are not clipped.",
        ),
    ] = None
    embedding_optimizer: Annotated[
        RowOptimizerName,
        Field(
            description="Steps the embedding rows that a batch touches. Of a row of `dim` numbers "
            "`rowwise_adagrad` keeps 1 more, `adam` 2 x `dim`, `sgd` none. `adam` is the lazy one, whose "
            "moments wait for a row's next token; it needs `device: cpu`."
        ),
    ] = "rowwise_adagrad"
    embedding_learning_rate: Annotated[
        Float32, Field(gt=0, description="Of `embedding_optimizer`; Adam wants a lower one, such as 1e-3.")
    ] = 0.02
    embedding_l2: Annotated[
        Float32,
        Field(
            ge=0,
            description="L2 penalty on the rows that a batch touches: this x the row joins its gradient.",
        ),
    ] = 0.0
    warmup_steps: Annotated[
        int, Field(ge=0, description="Steps in which both learning rates rise linearly to their full value.")
    ] = 0
    learning_rate_decay: Annotated[
        Literal["none", "linear", "cosine"],
        Field(
            description="How both learning rates fall step by step, from the end of `warmup_steps` to 0 at "
            "the end of the last epoch: on a line, or as half a cosine. At a constant rate Adam leaves the "
            "mean prediction off by several percent, up or down by chance."
        ),
    ] = "none"
    embedding_eps: Annotated[Float32, Field(gt=0, description="Epsilon of `rowwise_adagrad` and `adam`.")] = (
        1e-8
    )
    seed: Annotated[
        int, Field(description="Seed of the initial parameters and of the order of the row groups.")
    ] = 42
    num_streams: Annotated[
        int | None,
        Field(
            ge=1,
            description="Streams that a batch is drawn from, distributed over ranks. Runs with the same "
            "number see the same batches. By default the smallest multiple of the ranks, at least 4.",
        ),
    ] = None
    reader: Annotated[
        ReaderName,
        Field(description="What reads the examples: `petastorm`, or `arrow`, pyarrow alone. Same batches."),
    ] = "petastorm"
    reader_threads: Annotated[int, Field(ge=1, le=64, description="The reader's threads per rank.")] = 1
    backend: Annotated[
        Backend,
        Field(
            description="What ranks exchange by: `horovod`, started by `horovodrun`; or `torch`, "
            "torch.distributed, started by `torchrun` or by `spark-submit jobs/train.py`."
        ),
    ] = "horovod"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], Field(description="`auto`: CUDA where there is one, else the CPU.")
    ] = "auto"
    threads: Annotated[
        int | None,
        Field(ge=1, description="torch's threads per rank; by default the host's cores / its ranks."),
    ] = None
    bf16: Annotated[
        bool,
        Field(
            description="Run the towers' matrix products in bfloat16, sums in float32; "
            "faster on GPUs and on CPUs with `avx512_bf16`, slower on others."
        ),
    ] = False
    checkpoint_every_steps: Annotated[
        int, Field(ge=0, description="Steps between checkpoints; 0: only at SIGTERM.")
    ] = 1000
    keep_checkpoints: Annotated[int, Field(ge=1, description="Checkpoints kept.")] = 2
    resume: Annotated[
        bool,
        Field(
            description="Go on from the newest checkpoint, if there is one. With false a run starts over, "
            "but the same command on the same data goes on from its checkpoints until it is published."
        ),
    ] = True
    run_id: Annotated[
        RunId | None,
        Field(
            description="Names the run, such as the day in a daily job: go on from the checkpoints of the "
            "run of this name, or begin it, whatever `resume` says. By default runs have numbers.",
        ),
    ] = None
    early_stopping_epochs: Annotated[
        int,
        Field(ge=0, description="Stop after this many epochs without a better `best_metric`; 0: never."),
    ] = 1
    best_metric: Annotated[
        str | None,
        Field(
            description="The validation AUC that says which epoch is best; by default that of the last "
            "task in the entire space."
        ),
    ] = None
    max_steps: Annotated[
        int | None, Field(ge=1, description="Stop after this many steps of the whole run.")
    ] = None
    tensorboard: Annotated[bool, Field(description="Write TensorBoard logs below the model folder.")] = True
    mlflow: Annotated[
        str | None,
        Field(
            min_length=1,
            description="MLflow's tracking server, such as `sqlite:////shared/mlflow.db` or "
            "`http://host:5000`: a published model is a run there, with parameters, curves, metrics, and the "
            "model as artifact. Needs the extra `mlflow`.",
        ),
    ] = None
    stall_timeout_s: Annotated[
        int,
        Field(
            ge=5,
            description="Seconds that a rank waits for one that works or is silent before all of them stop.",
        ),
    ] = 60

    @model_validator(mode="after")
    def _check_first_step(self) -> Self:
        if self.embedding_optimizer == "rowwise_adagrad":
            _require_finite_ratio(self.embedding_learning_rate, self.embedding_eps)
        return self

    @model_validator(mode="after")
    def _check_weight_decay(self) -> Self:
        if self.learning_rate * self.weight_decay >= 1:
            raise ValueError(
                f"learning_rate x weight_decay = {self.learning_rate * self.weight_decay:g}, the share that "
                "a step takes off each weight, must be below 1: lower weight_decay"
            )
        return self
