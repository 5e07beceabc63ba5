"""Outside input, broken on purpose: targets, their corpus, and a runner that looks for more: docs/reliability.md."""
