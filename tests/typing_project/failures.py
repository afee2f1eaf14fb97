"""Errors, and the exit codes that programs end with."""

import sys

from pipeline import EvaluationFailed, InputError, MissingExtraError, PipelineError, StalledError, open_executor


def main() -> int:
    try:
        with open_executor(workers=1) as executor:
            executor.submit(len, "abc").result()
    except EvaluationFailed as error:
        return error.exit_code
    except StalledError as error:
        print(f"look at the workers: {error}")
        return 1
    except PipelineError as error:
        sys.exit(error.exit_code)
    return 0


def is_bad_input(error: PipelineError) -> bool:
    return isinstance(error, InputError)


def is_import_error(error: MissingExtraError) -> ImportError:
    return error


def codes_are_numbers(error: PipelineError) -> str:
    return error.exit_code  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
