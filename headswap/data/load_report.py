"""``LoadReport``: what loading images read, inferred, skipped and noticed."""

from __future__ import annotations

from dataclasses import dataclass

from headswap.common.deprecation import renamed_attributes
from headswap.common.text import format_image_count


@renamed_attributes(read="num_read", understood="interpretation")
@dataclass(frozen=True)
class LoadReport:
    """What loading did.

    Attributes:
        num_read: images that were read.
        skipped: (name, reason) of each file that was not.
        notes: sentences on what else a user should know.
        interpretation: a sentence on each table of labels, and one on the validation split if the source has one.
    """

    num_read: int
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    interpretation: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{format_image_count(self.num_read)} read, {len(self.skipped)} skipped."
        skipped = [f"{name}: {reason}." for name, reason in self.skipped]
        return "\n".join([counts, *self.interpretation, *self.notes, *skipped])

    def concatenate(self, other: LoadReport) -> LoadReport:
        """The report of this loading and another."""
        return LoadReport(
            self.num_read + other.num_read,
            self.skipped + other.skipped,
            self.notes + other.notes,
            self.interpretation + other.interpretation,
        )
