"""Why a guard, judge or remedy could not do its work, named by what happens next.

GuardError                  the work was not done; the message names the cause
    Retryable               nothing is wrong with the adapter; try again when the cause is gone
        JudgeUnreachable    the judge could not be asked
    Permanent               trying again cannot help; somebody has to change the policy or the files
        Untreatable         a remedy cannot mend this adapter; another one may
"""

from __future__ import annotations


class GuardError(Exception):
    """A guard, judge or remedy could not do its work; the message names the cause."""


class Retryable(GuardError):
    """The surroundings failed (a judge out of reach, a full disk); the adapter was not judged by it."""


class JudgeUnreachable(Retryable):
    """The judge could not be asked; nothing was learnt about the answers."""


class Permanent(GuardError):
    """Trying again cannot help: the policy, the suite or the base has to change."""


class Untreatable(Permanent):
    """This remedy cannot mend this adapter; another remedy may."""
