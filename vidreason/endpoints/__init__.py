"""Endpoints of OpenAI's chat-completions form: one client, and a cache of its replies."""
