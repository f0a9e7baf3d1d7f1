"""The counts line: how many thinking units a question will cost."""
