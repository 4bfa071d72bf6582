"""Tokens to tokens: what Triton's python backend loads. The engine is the service's own."""

import sys
from pathlib import Path

# Triton's python processes see no PYTHONPATH; the code lies beside the model repository, or is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import torch
import triton_python_backend_utils as pb_utils

from services.common.triton_python import PythonModel
from services.lm.triton_codec import merge
from services.lm.triton_model import TritonLanguageModel, TritonSettings


class TritonPythonModel(PythonModel[TritonSettings]):
    """The class that the backend looks for."""

    backend = pb_utils
    settings = TritonSettings
    load = TritonLanguageModel.load
    to_tensor = staticmethod(torch.from_numpy)
    merge = staticmethod(merge)
