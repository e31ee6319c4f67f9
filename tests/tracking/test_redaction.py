import pytest

from histo_mlflow.tracking.redaction import redact, redact_command, redact_own_command


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:hunter2@db:5432/x", "postgresql://[redacted]@db:5432/x"),
        ("http://token@host/", "http://[redacted]@host/"),
        ("DB_PASSWORD=hunter2 next", "DB_PASSWORD=[redacted] next"),
        ('api_key: "abc def"', "api_key: [redacted]"),
        ('{"secret": "abc"}', '{"secret": [redacted]}'),
        ("+aws_secret_access_key = abc", "+aws_secret_access_key = [redacted]"),
        ("AKIAABCDEFGHIJKLMNOP", "[redacted]"),
        ("ghp_" + "a" * 36, "[redacted]"),
        ("hf_" + "b" * 34, "[redacted]"),
        (
            "sqlite:///mlflow.db lr=0.001 data_dir=/x/y",
            "sqlite:///mlflow.db lr=0.001 data_dir=/x/y",
        ),
        ("http://127.0.0.1:5000/#/a", "http://127.0.0.1:5000/#/a"),
        ("see mail@example.org", "see mail@example.org"),
    ],
)
def test_what_looks_like_a_credential_is_blotted_out_and_the_rest_stays(
    text: str, expected: str
) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x", "--token", "abc", "--lr", "1"], ["x", "--token", "[redacted]", "--lr", "1"]),
        (["x", "--kaggle-api-key=abc"], ["x", "--kaggle-api-key=[redacted]"]),
        (["x", "-P", "password=abc"], ["x", "-P", "password=[redacted]"]),
        (["x", "--password", "--token", "y"], ["x", "--password", "[redacted]", "y"]),
        (["x", "-P", "dataset=demo"], ["x", "-P", "dataset=demo"]),
    ],
)
def test_a_command_line_hides_the_value_of_a_secret_option(
    arguments: list[str], expected: list[str]
) -> None:
    assert redact_command(arguments) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("postgresql://me@host/optuna", "postgresql://me@host/optuna"),
        ("postgresql://me:pw@host/optuna", "postgresql://me:[redacted]@host/optuna"),
        ("--tracking-uri=https://me:pw@host/", "--tracking-uri=https://me:[redacted]@host/"),
        (f"https://hf_{'x' * 30}@host/", "https://[redacted]@host/"),
        ("api_key=abc", "api_key=[redacted]"),
        ("sqlite:////data/optuna.db", "sqlite:////data/optuna.db"),
    ],
)
def test_a_command_to_be_typed_again_keeps_users_but_no_secret(
    argument: str, expected: str
) -> None:
    assert redact_own_command(["x", argument, "y"]) == ["x", expected, "y"]
