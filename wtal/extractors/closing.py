"""What is open until it is closed."""

from typing import Self


class Closing:
    """`with` ends in `close`."""

    def close(self) -> None:
        """Give back what is held; a second call does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
