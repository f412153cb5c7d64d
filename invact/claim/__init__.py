"""Claims: fewer filters at equal accuracy, decided by a protocol that was fixed before the evidence."""

from invact.claim.file import Claim, load_claim
from invact.claim.protocol import plan_claim, test_claim
from invact.claim.result import ClaimResult, SetResult

__all__ = ["Claim", "ClaimResult", "SetResult", "load_claim", "plan_claim", "test_claim"]
