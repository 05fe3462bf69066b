"""Judge at any endpoint of the chat-completions form: OpenAI's, vLLM's, llama.cpp's, ..."""

from typing import Any

from vidreason.endpoints.client import ChatEndpoint
from vidreason.endpoints.replies import ChatReply
from vidreason.evaluation.judge.judges import JudgeConfig, pinned_id
from vidreason.evaluation.judge.request import JudgeRequest


class OpenAICompatibleJudge:
    """Sends each request to ``{base_url}/chat/completions``, at temperature 0.

    Args:
        config: Of kind ``openai``.

    Raises:
        ValueError: The environment variable of the key is not set.
    """

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._endpoint = ChatEndpoint(config)

    @property
    def judge_id(self) -> str:
        """The model's id with a hash of endpoint and parameters; the key is in no hash."""
        config = self._config
        return pinned_id(
            config.model,
            {
                "base_url": config.base_url,
                "output_format": config.output_format,
                "max_new_tokens": config.max_new_tokens,
                "seed": config.seed,
                "temperature": 0,
                "request_fields": config.request_fields,
            },
        )

    def ask(self, request: JudgeRequest) -> ChatReply:
        """The first choice.

        Raises:
            EndpointUnavailableError: No try gave a reply of the expected form.
            EndpointRefusedError: The endpoint refuses the request for what it is.
        """
        return self._endpoint.complete(
            self._config.model, request.messages(), self._fields(request)
        )

    def close(self) -> None:
        """End the requests that are under way."""
        self._endpoint.close()

    def _fields(self, request: JudgeRequest) -> dict[str, Any]:
        config = self._config
        fields: dict[str, Any] = {
            "temperature": 0,
            "max_tokens": config.max_new_tokens,
            "seed": config.seed,
        }
        if config.output_format == "json_object":
            fields["response_format"] = {"type": "json_object"}
        elif config.output_format == "json_schema":
            schema = {"name": "verdict", "strict": True, "schema": dict(request.schema)}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        fields |= config.request_fields
        # A null of the configuration leaves out a field that is set here.
        return {name: value for name, value in fields.items() if value is not None}
