"""Every exception Chucky raises on purpose.

    ChuckyError                    a sentence for a person: what, where, the way out
      ConfigError        exit 78   the config file; carries all problems at once
      CookieError        exit 78   the cookie file
      NodeNameError      exit 78   a malformed node name
      FactsError                   the facts file; the node becomes ineligible
      AlreadyRuns        exit 75   another chuckyd of this name runs here
      RequestFailed                the daemon could not do it; carries the exit code
      Unavailable        exit 69   no daemon, no owner in time
      ProtocolError      abstract
        LocalProtocolError         we broke the protocol: a bug of ours
        RemoteProtocolError        the peer broke it: costs the peer its link
          FrameTooBig
          BadMessage
          HandshakeRefused         carries the reason: one of handshake.REFUSALS

A missing mandatory node and a name taken elsewhere (75) are no exceptions: they are the core's
`Exit` action. Codes are those of sysexits(3).
"""

EXIT_UNAVAILABLE = 69
EXIT_TEMPORARY = 75
EXIT_CONFIG = 78


class ChuckyError(Exception):
    """A problem that a person can mend; str() is one line, `exit_code` what a command ends with."""

    exit_code = 1


class ConfigError(ChuckyError):
    """The config is wrong; `problems` has one line `key: got X, want Y` each."""

    exit_code = EXIT_CONFIG

    def __init__(self, where: str, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(f"{where}: {problem}" for problem in problems))
        self.where = where
        self.problems = problems


class CookieError(ChuckyError):
    """The cookie file cannot be used; the sentence has the command that mends it."""

    exit_code = EXIT_CONFIG


class NodeNameError(ChuckyError):
    """A node name or a pattern for one is malformed."""

    exit_code = EXIT_CONFIG


class FactsError(ChuckyError):
    """The facts file cannot be used."""


class NotAFile(ChuckyError):
    """A folder, a FIFO or a device is where a file should be."""


class Unavailable(ChuckyError):
    """Nobody is there to answer: no daemon on this machine, or no owner in time."""

    exit_code = EXIT_UNAVAILABLE


class AlreadyRuns(ChuckyError):
    """Another chuckyd of this name runs on this machine."""

    exit_code = EXIT_TEMPORARY


class RequestFailed(ChuckyError):
    """The daemon was asked over the control socket and could not do it."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class ProtocolError(ChuckyError):
    """The wire protocol was broken; raise one of the two below."""


class LocalProtocolError(ProtocolError):
    """We asked the wire for something impossible: a bug of ours."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what the protocol does not allow."""


class FrameTooBig(RemoteProtocolError):
    """The peer announced a frame beyond the limit."""


class BadMessage(RemoteProtocolError):
    """A frame, datagram or handshake message does not decode."""


class HandshakeRefused(RemoteProtocolError):
    """The handshake ended in a refusal, by either end."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
