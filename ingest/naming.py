"""What file names and sidecars are read with: the data of `config` as values of `evidence`.

Made once by an entry point (`Vocabulary.of`) and handed down; what is shipped is used where none is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from config.profiles import (
    NameProfileData,
    SidecarFields,
    load_name_profiles,
    load_sidecar_fields,
)
from config.settings import IngestSettings
from evidence.filenames import NameProfile, parse
from evidence.kinds import ClaimSource
from ingest.facts import Statement
from ingest.wording import fit_statement


@dataclass(frozen=True)
class Vocabulary:
    """The file-name profiles, in the order they are tried, and the names of sidecar fields."""

    profiles: tuple[NameProfile, ...]
    sidecar_fields: SidecarFields

    @classmethod
    def of(cls, settings: IngestSettings) -> Vocabulary:
        """What is shipped and what the agency adds.

        Raises:
            SettingsError: The agency's files cannot be used; every finding.
        """
        return cls(
            tuple(map(_profile, load_name_profiles(settings.name_profiles))),
            load_sidecar_fields(settings.sidecar_fields),
        )

    def said_by_name(self, name: bytes | str) -> list[Statement]:
        """What a file's name says, in words that can be kept."""
        return [
            fit_statement(Statement(claim.field, claim.value, ClaimSource.FILENAME, claim.clock))
            for claim in parse(name, self.profiles)
        ]


@cache
def shipped() -> Vocabulary:
    """What is shipped, without an agency's additions."""
    return Vocabulary(tuple(map(_profile, load_name_profiles())), load_sidecar_fields())


def _profile(data: NameProfileData) -> NameProfile:
    return NameProfile(data.name, data.pattern, data.timezone, dict(data.flags), ignore_case=data.ignore_case)
