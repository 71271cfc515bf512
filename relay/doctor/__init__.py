"""The production checklist, as questions that are asked of a running installation and of what deploys it."""
