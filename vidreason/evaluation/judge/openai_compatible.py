"""A judge behind any endpoint of the chat-completions form: OpenAI's, vLLM's, llama.cpp's, ..."""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from vidreason.evaluation.judge.judges import JudgeConfig, JudgeUnavailableError, pinned_id
from vidreason.evaluation.judge.request import JudgeRequest

_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0


class OpenAICompatibleJudge:
    """Sends each request to ``{base_url}/chat/completions``, at temperature 0.

    Args:
        config: Of kind ``openai``.
        sleep: Waits between tries; a test passes another.

    Raises:
        ValueError: The environment variable of the key is not set.
    """

    def __init__(self, config: JudgeConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config = config
        self._sleep = sleep
        self._key = os.environ.get(config.api_key_variable, "") if config.api_key_variable else ""
        if config.api_key_variable and not self._key:
            raise ValueError(
                f"the environment variable {config.api_key_variable} is not set; put the key of "
                f"{config.base_url} in it, or set judge.api_key_variable='' for an endpoint "
                "without keys"
            )

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

    def ask(self, request: JudgeRequest) -> str:
        """The content of the first choice.

        Raises:
            JudgeUnavailableError: No try gave an answer of the expected form.
            ValueError: The endpoint refuses the request for what it is (status 4xx).
        """
        body = json.dumps(self._body(request)).encode()
        wait = _FIRST_WAIT_SECONDS
        for attempt in range(1, self._config.max_attempts + 1):
            try:
                return _content(self._post(body))
            except urllib.error.HTTPError as error:
                with error:
                    reason = f"status {error.code}: {error.read(500).decode(errors='replace')}"
                    asked = error.headers.get("Retry-After", "")
                if error.code not in _PASSING_STATUS:
                    raise ValueError(f"{self._config.base_url} refuses: {reason}") from error
                wait = max(wait, float(asked)) if asked.isdecimal() else wait
            except (OSError, http.client.HTTPException, json.JSONDecodeError, KeyError) as error:
                reason = f"{type(error).__name__}: {error}"
            if attempt < self._config.max_attempts:
                self._sleep(min(wait, _LONGEST_WAIT_SECONDS))
                wait *= 2
        raise JudgeUnavailableError(
            f"{self._config.base_url} gave no output in {self._config.max_attempts} tries; the "
            f"last one failed with {reason}"
        )

    def _body(self, request: JudgeRequest) -> dict[str, Any]:
        config = self._config
        body: dict[str, Any] = {
            "model": config.model,
            "messages": request.messages(),
            "temperature": 0,
            "max_tokens": config.max_new_tokens,
            "seed": config.seed,
        }
        if config.output_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif config.output_format == "json_schema":
            schema = {"name": "verdict", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        body |= config.request_fields
        return {name: value for name, value in body.items() if value is not None}

    def _post(self, body: bytes) -> Any:  # noqa: ANN401 - JSON
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        url = f"{self._config.base_url.rstrip('/')}/chat/completions"
        request = urllib.request.Request(url, data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=self._config.timeout_seconds) as response:
            return json.loads(response.read())


def _content(answer: Any) -> str:  # noqa: ANN401 - JSON
    """The text of an answer; empty where the model refused or had no room left to begin."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices:
        raise KeyError("choices")
    content = choices[0]["message"].get("content")
    return content if isinstance(content, str) else ""
