"""Answers as rows: lines counted over all a model wrote."""

from typing import Any

from assay.data.fetch.champ import answers_table, num_lines


def say(role: str, text: str | None) -> dict[str, Any]:
    return {"role": role, "text": text, "error": None if text else "LENGTH_PREVIOUS"}


def test_lines_are_those_of_the_model_that_hold_something() -> None:
    messages = [
        say("System", "a\nb"),
        say("User", "q"),
        say("Model.GPT-4", "one\n\n  \ntwo"),
        say("Imputation", "x\ny"),
    ]
    assert num_lines(messages) == 2
    assert num_lines([*messages, say("Model.GPT-4", "three"), say("Model.GPT-4", None)]) == 3


def test_a_row_per_problem_and_setting() -> None:
    talk = {"messages": [say("Model.GPT-4", "a\nb\nc")]}
    content = {"problems": {"P_1": {"_text": "why?", "conversations": {"GPT-4|0-Shot": talk, "GPT-4|5-Shot": talk}}}}
    table = answers_table(content)
    assert table.values.tolist() == [["why?", "GPT-4, 0-Shot", 3, "P_1"], ["why?", "GPT-4, 5-Shot", 3, "P_1"]]
