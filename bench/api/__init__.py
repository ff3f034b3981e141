"""Asking models behind an OpenAI-compatible server: the only code of the project that talks to one."""
