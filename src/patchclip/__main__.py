"""`python -m patchclip`."""

import sys

from patchclip.cli import main

sys.exit(main())
