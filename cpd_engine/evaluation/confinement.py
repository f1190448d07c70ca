"""The command that starts a Python inside bubblewrap with nothing of this machine but that Python. Pure but for looking at files.

Two forms. An ordinary user's: bubblewrap makes a user namespace and all the others. Root's: a first bubblewrap makes the same few
files visible at the same paths, whatever the permissions of their folders; in there root becomes a user that owns nothing, and starts
the second bubblewrap as an ordinary user would.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

# Not given to any user by Debian, systemd or useradd.
FIRST_USER = 60_706
USERS = 400
_NOBODY = "65534"
_DEVICES = (Path("/dev/null"), Path("/dev/urandom"))
PACKAGES = Path("/packages")

# Before anything of the sandbox exists: first in line when memory runs out, no core files, and no longer root. Root waits beside it: the
# second bubblewrap dies with its parent, and at the end of a parent the kernel asks whether that one may kill it.
_LAUNCH = """
import os, resource, sys
user, command = int(sys.argv[1]), sys.argv[2:]
with open("/proc/self/oom_score_adj", "w") as score:
    score.write("1000")
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
if user and (child := os.fork()):
    os.closerange(3, 2**16)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0)
if user:
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
os.execv(command[0], command)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What a sandbox is made of: the bubblewrap, the Python inside, and what of the machine is visible, read-only."""

    bwrap: Path
    python: Path
    # Host path → path inside; and links inside → what they say.
    binds: tuple[tuple[Path, Path], ...]
    links: tuple[tuple[str, Path], ...]

    @classmethod
    def of_this_python(cls, bwrap: Path) -> Confinement:
        """The interpreter that runs this, its standard library, the machine's shared libraries, and numpy where it is installed."""
        python = Path(sys.executable).resolve()
        shared = Path(str(sysconfig.get_config_var("LIBDIR")), str(sysconfig.get_config_var("INSTSONAME")))
        own = [python, Path(sysconfig.get_path("stdlib")), *([shared] if shared.suffix != ".a" else [])]
        system = [Path(name) for name in ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache")]
        real = [path for path in (*own, *system) if path.exists() and not path.is_symlink()]
        return cls(
            bwrap=bwrap.resolve(),
            python=python,
            binds=tuple([(path, path) for path in real] + list(_numpy())),
            links=tuple((str(path.readlink()), path) for path in system if path.is_symlink()),
        )

    def command(
        self, program: Sequence[str], *, user: int | None, info: int, block: int, temporary_bytes: int
    ) -> list[str]:
        """Start Python with the arguments `program` as the first process of all namespaces; `user`: the real user, where root starts it.

        `info`, `block`: descriptors on which bubblewrap tells the process id, and waits for leave to go on.
        """
        inner = [
            str(self.bwrap),
            *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--as-pid-1"),
            *("--cap-drop", "ALL", "--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "sandbox", "--clearenv"),
            *("--setenv", "HOME", "/tmp", "--setenv", "LANG", "C.UTF-8", "--setenv", "OPENBLAS_NUM_THREADS", "1"),  # noqa: S108 - inside
            *self._visible(),
            *("--size", str(temporary_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"),  # noqa: S108 - inside
            *("--info-fd", str(info), "--block-fd", str(block), "--"),
            *(str(self.python), "-I", "-S", "-B", *program),
        ]
        launch = [str(self.python), "-I", "-S", "-B", "-c", _LAUNCH, str(user or 0), *inner]
        if user is None:
            return launch
        return [
            str(self.bwrap),
            *self._visible(),
            *self._outer(),
            # The second bubblewrap sets up its own root at /tmp, and reads /proc.
            *("--dev-bind", "/proc", "/proc", "--perms", "0755", "--dir", "/tmp", "--die-with-parent", "--"),  # noqa: S108 - inside
            *launch,
        ]

    def _visible(self) -> Iterator[str]:
        # Left to itself bubblewrap makes the folders above for its own user alone.
        for folder in _above((*(inside for _, inside in self.binds), *_DEVICES)):
            yield from ("--perms", "0755", "--dir", str(folder))
        for path, inside in self.binds:
            yield from ("--ro-bind", str(path), str(inside))
        for device in _DEVICES:
            yield from ("--dev-bind", str(device), str(device))
        for target, path in self.links:
            yield from ("--symlink", target, str(path))

    def _outer(self) -> Iterator[str]:
        """What the second bubblewrap looks for beside what it shows: itself, and at their own paths what it shows elsewhere."""
        needed = [self.bwrap, *(path for path, inside in self.binds if path != inside)]
        for folder in _above(needed):
            yield from ("--perms", "0755", "--dir", str(folder))
        for path in needed:
            yield from ("--ro-bind", str(path), str(path))


def _above(paths: Iterable[Path]) -> list[Path]:
    """Every folder that one of the paths lies in but the root, those above first."""
    folders = {folder for path in paths for folder in path.parents if folder.name}
    return sorted(folders, key=lambda folder: len(folder.parts))


def _numpy() -> Iterator[tuple[Path, Path]]:
    """The package and its libraries, at /packages: tests of EvalPlus's hub files import it, and so do programs."""
    spec = find_spec("numpy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in (Path(folder), Path(f"{folder}.libs")):
            if path.is_dir():
                yield path, PACKAGES / path.name
