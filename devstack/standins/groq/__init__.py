"""Groq's chat completions, answered by a few rules instead of a language model.

Any key is accepted. Beyond `devstack.standins.serving.Faults`, `/_control` takes `answer` and
`answers` (what the "model" says, once per queued item), `rate_limit_rpm`, `rate_limit_tpm` and
`retry_after`; `{"status": 400}` is a model that fails to write JSON. The habits of Ollama, vLLM
and llama.cpp are set by the rest of `GroqFaults`.
"""

from devstack.standins.groq.app import create_app
from devstack.standins.groq.settings import Dialect, GroqFaults, GroqSettings

__all__ = ["Dialect", "GroqFaults", "GroqSettings", "create_app"]
