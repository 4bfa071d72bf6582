"""The released `config.yaml` as data: HyperPyYAML's `!new:` and `!ref` tags are read, never executed."""

import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.common.errors import WeightsError

CLASS_KEY = "class"
_REF = re.compile(r"^<([\w.\[\]]+)>$")


class _TaggedLoader(yaml.SafeLoader):
    """A safe loader that keeps `!new:module.Class` as a mapping with the class's name, and `!ref` as its text."""


def _construct_new(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, f"!new:{suffix} must hold a mapping", node.start_mark)
    items: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return {**items, CLASS_KEY: suffix.rsplit(".", 1)[-1]}


class _Ref(str):
    __slots__ = ()


def _construct_ref(loader: yaml.SafeLoader, node: yaml.Node) -> _Ref:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "!ref must be a scalar", node.start_mark)
    return _Ref(loader.construct_scalar(node))


_TaggedLoader.add_multi_constructor("!new:", _construct_new)
_TaggedLoader.add_constructor("!ref", _construct_ref)


def _resolve(value: Any, root: dict[str, Any]) -> Any:
    if isinstance(value, _Ref):
        match = _REF.match(value)
        if match is None or match[1] not in root:
            raise WeightsError(f"config.yaml: !ref {value} names nothing at the top level")
        return root[match[1]]
    if isinstance(value, dict):
        return {key: _resolve(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, root) for item in value]
    return value


class _Part(BaseModel):
    """Keys that have no effect on inference (dropout, training loss) are accepted and left out."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class EncoderConfig(_Part):
    """`BlockConformerEncoder` without macaron feed-forward and convolution modules."""

    name: Literal["BlockConformerEncoder"] = Field(alias=CLASS_KEY)
    input_size: int = Field(gt=0)
    output_size: int = Field(gt=0)
    attention_heads: int = Field(gt=0)
    linear_units: int = Field(gt=0)
    num_blocks: int = Field(gt=0)
    block_size: int = Field(gt=0)
    input_layer: Literal["linear"] = "linear"
    pos_enc_layer_type: Literal["rel_pos_espnet"]
    selfattention_layer_type: Literal["block_rel_selfattn"]
    normalize_before: Literal[True] = True
    use_cnn_module: Literal[False]
    macaron_style: Literal[False]


class RegulatorConfig(_Part):
    """`InterpolateRegulator`."""

    name: Literal["InterpolateRegulator"] = Field(alias=CLASS_KEY)
    channels: int = Field(gt=0)
    sampling_ratios: tuple[Literal[1], ...]


class CfmParams(_Part):
    """How the flow is solved, as the released file says it."""

    solver: Literal["euler"] = "euler"
    t_scheduler: Literal["cosine", "linear"] = "cosine"
    sigma_min: float = Field(1e-6, ge=0)
    training_cfg_rate: float = Field(0.2, ge=0, le=1)
    inference_cfg_rate: float = Field(0.7, ge=0)


class EstimatorConfig(_Part):
    """`ConditionalDecoder`: the U-Net that estimates the flow's velocity."""

    name: Literal["ConditionalDecoder"] = Field(alias=CLASS_KEY)
    in_channels: int = Field(gt=0)
    out_channels: int = Field(gt=0)
    channels: tuple[int, ...] = Field(min_length=1)
    attention_head_dim: int = Field(gt=0)
    n_blocks: int = Field(ge=0)
    num_mid_blocks: int = Field(ge=0)
    num_heads: int = Field(gt=0)
    act_fn: Literal["gelu"]


class CfmConfig(_Part):
    """`ConditionalCFM`."""

    name: Literal["ConditionalCFM"] = Field(alias=CLASS_KEY)
    cfm_params: CfmParams
    estimator: EstimatorConfig

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        """`cfm_params` is an omegaconf.DictConfig whose `content` holds the values."""
        if isinstance(value, dict) and isinstance(value.get("cfm_params"), dict):
            params = value["cfm_params"]
            return {**value, "cfm_params": params.get("content", params)}
        return value


class FlowConfig(_Part):
    """`MaskedDiffWithXvec`: tokens to mel.

    `speaker_to_encoder` is this project's addition: the speaker embedding also goes into the token encoder, so that mu
    has a voice by itself. In the released design only the estimator hears it.
    """

    name: Literal["MaskedDiffWithXvec"] = Field(alias=CLASS_KEY)
    input_size: int = Field(gt=0)
    output_size: int = Field(gt=0)
    spk_embed_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    input_frame_rate: float = Field(gt=0)
    encoder: EncoderConfig
    length_regulator: RegulatorConfig
    decoder: CfmConfig
    speaker_to_encoder: bool = False


class F0Config(_Part):
    """`ConvRNNF0Predictor` (there is no recurrence in it, for all its name)."""

    name: Literal["ConvRNNF0Predictor"] = Field(alias=CLASS_KEY)
    num_class: Literal[1] = 1
    in_channels: int = Field(gt=0)
    cond_channels: int = Field(gt=0)


class IstftParams(_Part):
    """The iSTFT at the end of the vocoder."""

    n_fft: int = Field(gt=0)
    hop_len: int = Field(gt=0)


class HiftConfig(_Part):
    """`HiFTGenerator`.

    `head` is this project's addition: `istft` (the released design: the network predicts magnitudes and phases) or
    `source_filter` (the network predicts magnitudes that filter the source's STFT; no upsampling stages).
    """

    name: Literal["HiFTGenerator"] = Field(alias=CLASS_KEY)
    head: Literal["istft", "source_filter"] = "istft"
    in_channels: int = Field(gt=0)
    base_channels: int = Field(gt=0)
    nb_harmonics: int = Field(ge=0)
    sampling_rate: int = Field(gt=0)
    nsf_alpha: float = Field(ge=0)
    nsf_sigma: float = Field(ge=0)
    nsf_voiced_threshold: float = Field(ge=0)
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    istft_params: IstftParams
    resblock_kernel_sizes: tuple[int, ...]
    resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    source_resblock_kernel_sizes: tuple[int, ...]
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...]
    lrelu_slope: float = 0.1
    audio_limit: float = Field(0.99, gt=0)
    f0_predictor: F0Config

    @model_validator(mode="after")
    def _consistent(self) -> "HiftConfig":
        if (self.head == "source_filter") != (not self.upsample_rates):
            raise ValueError("head source_filter goes with no upsample_rates, head istft with at least one")
        stages = (self.upsample_kernel_sizes, self.source_resblock_kernel_sizes, self.source_resblock_dilation_sizes)
        if any(len(stage) != len(self.upsample_rates) for stage in stages):
            raise ValueError("upsample_kernel_sizes and source_resblock_* need one entry per upsample rate")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilation_sizes):
            raise ValueError("resblock_kernel_sizes and resblock_dilation_sizes differ in length")
        return self


class InferenceConfig(_Part):
    """How to sample. The defaults are the released demo's; a checkpoint may carry its own block `inference:`.

    `start` is the flow's time at which sampling begins, from mu with that share of noise left (shallow diffusion, Liu
    et al. 2022): 0 from noise alone, as released; 1 gives mu itself. It suits an estimator that has seen little data.
    """

    n_timesteps: int = Field(10, ge=1, le=1000)
    temperature: float = Field(1.0, ge=0, le=2)
    start: float = Field(0.0, ge=0, le=1)
    cfg_rate: float | None = Field(None, ge=0, description="guidance; none: the flow's inference_cfg_rate")


class DecoderConfig(_Part):
    """The whole file."""

    sample_rate: int = Field(gt=0)
    flow: FlowConfig
    hift: HiftConfig
    inference: InferenceConfig = InferenceConfig()

    @property
    def guidance(self) -> float:
        """Weight of classifier-free guidance."""
        own = self.inference.cfg_rate
        return self.flow.decoder.cfm_params.inference_cfg_rate if own is None else own

    @model_validator(mode="after")
    def _consistent(self) -> "DecoderConfig":
        flow, mel = self.flow, self.flow.output_size
        if flow.decoder.estimator.in_channels != 4 * mel:
            raise ValueError(f"estimator.in_channels must be 4 x {mel}: noise, mu, speaker and prompt mel")
        if not flow.output_size == flow.length_regulator.channels == flow.decoder.estimator.out_channels:
            raise ValueError("output_size, length_regulator.channels and estimator.out_channels differ")
        if self.hift.in_channels != mel or self.hift.f0_predictor.in_channels != mel:
            raise ValueError(f"the vocoder must take the flow's {mel} mel bins")
        if flow.encoder.input_size != flow.input_size:
            raise ValueError("encoder.input_size must equal the flow's input_size")
        if flow.encoder.output_size % flow.encoder.attention_heads:
            raise ValueError("encoder.output_size must be a multiple of attention_heads")
        return self


def read(path: Path) -> DecoderConfig:
    """Reads and checks `config.yaml`.

    Raises:
        WeightsError: the file cannot be read, is not YAML, or describes a model that this decoder is not.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaggedLoader)  # noqa: S506  derives from SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise WeightsError(f"{path}: not a YAML file this decoder can read: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise WeightsError(f"{path}: must hold a mapping with sample_rate, flow and hift")
    try:
        return DecoderConfig.model_validate(_resolve(raw, raw))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise WeightsError(f"{path}: {where}: {first['msg']}") from error
