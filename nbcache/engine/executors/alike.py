"""Whether a machine of a cluster is what the kernel's is, as far as a task's hash counts it.

The hash says which packages and tools the kernel has. A task that ran with others would be kept
under a hash that does not tell of them.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping

from nbcache.engine.identity.modules import LocalModules
from nbcache.engine.identity.packages import package_components, see_packages
from nbcache.engine.identity.tools import tool_components
from nbcache.errors import ClusterDiffersError
from nbcache.model.fingerprint import Component
from nbcache.store.filestate import digest_of

WAY_OUT = "Have the same on all machines of the cluster, or run here: --executor local"


def describe_machine() -> dict[str, str]:
    """Return what all machines have to have in common, whatever the task is."""
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "nbcache": sys.modules["nbcache"].__version__,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def check_machine(host: str, kernel: Mapping[str, str], there: Mapping[str, str]) -> None:
    """Refuse a machine of another kind than the kernel's.

    Raises:
        ClusterDiffersError: it is one.
    """
    for what, own in kernel.items():
        if there.get(what) != own:
            raise ClusterDiffersError(
                f"the dask worker on {host} has {what} {there.get(what)}, and this kernel {own}: a "
                f"result from there would not be what this kernel computes.\n  {WAY_OUT}"
            )


def differences(wanted: Iterable[Component], search_path: str) -> list[str]:
    """Say of each package and tool that this machine has in another version, or not at all, what
    the kernel has and what is here.

    `search_path` is where a script's commands are looked for.
    """
    see_packages()
    modules, found = LocalModules(), []
    for each in wanted:
        if each.kind == "package":
            here = package_components(modules, [each.name])
        else:
            # By whichever the kernel's digest is of: the content, or the package that installed it.
            here = [
                tool
                for mode in ("content", "version")
                for tool in tool_components([each.name], (), digest_of, search_path, mode=mode)
            ]
        if each.digest not in [other.digest for other in here]:
            found.append(_difference(each, here[-1] if here else None))
    return found


def _difference(kernel: Component, here: Component | None) -> str:
    what = f"{kernel.kind} {kernel.name}"
    if here is None:
        return f"{what} is missing (the kernel has {kernel.summary})"
    if kernel.kind == "tool" or _versions(kernel) == _versions(here):
        return f"{what} is another {here.summary} than the kernel's {kernel.summary}"
    own, other = _versions(kernel), _versions(here)
    found, meant = (", ".join(sorted(each)) or "nothing" for each in (other - own, own - other))
    return f"{what} is there with {found}, and in the kernel with {meant}"


def _versions(package: Component) -> set[str]:
    """Return "name version" of a package and of each that it needs."""
    lines = (package.evidence or "").splitlines()
    return set(lines) or {package.summary}
