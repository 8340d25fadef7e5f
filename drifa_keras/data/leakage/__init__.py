"""Leakage audit: duplicates, straddling groups, confounds, and how easy a split is.

`fingerprint` looks at every image once; `audit` says what is wrong with a source
and its splits, `merge_groups` makes the groups that mend it, `assert_no_leakage`
refuses a split that leaks, and `contact_sheet` shows the pairs in question.
"""

from drifa_keras.data.leakage.audit import Audit, audit
from drifa_keras.data.leakage.check import assert_no_leakage
from drifa_keras.data.leakage.contact_sheet import contact_sheet
from drifa_keras.data.leakage.fingerprints import Fingerprints, fingerprint
from drifa_keras.data.leakage.groups import (
    merge_groups,
    merging_rule,
    near_groups,
    needs_thumbnails,
)
from drifa_keras.data.leakage.near import NearPairs, hash_pairs, near_pairs
from drifa_keras.data.leakage.pairs import Pairs
from drifa_keras.data.leakage.splits import SplitAudit, audit_split

__all__ = [
    "Audit",
    "Fingerprints",
    "NearPairs",
    "Pairs",
    "SplitAudit",
    "assert_no_leakage",
    "audit",
    "audit_split",
    "contact_sheet",
    "fingerprint",
    "hash_pairs",
    "merge_groups",
    "merging_rule",
    "near_groups",
    "near_pairs",
    "needs_thumbnails",
]
