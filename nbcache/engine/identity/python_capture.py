"""What a Python body reaches besides its inputs: names of the notebook, and what these reach."""

from __future__ import annotations

import sys
import textwrap
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from nbcache.engine.identity.body_names import BodyNames
from nbcache.engine.identity.captured import Captured
from nbcache.engine.identity.cell_settings import Surroundings, makes_text
from nbcache.engine.identity.input_settings import OF_INPUTS, InputSetting, InputSettings
from nbcache.engine.identity.modules import local_components
from nbcache.engine.identity.named_components import NamedComponents
from nbcache.engine.identity.packages import package_components
from nbcache.engine.identity.patches import PATCHES, Patch
from nbcache.engine.identity.payload import Payload, pickle_names
from nbcache.engine.identity.python_itself import host_components, python_component
from nbcache.engine.identity.sharing import shared_paths
from nbcache.engine.identity.sources import (
    place_of_body,
    source_of,
)
from nbcache.engine.identity.summaries import described
from nbcache.engine.identity.value_code import value_leaf
from nbcache.errors import FingerprintError
from nbcache.model.digest import Digest, identity_digest
from nbcache.model.fingerprint import Component
from nbcache.model.process import ProcessDecl
from nbcache.plan.identity.asked import Asked
from nbcache.plan.identity.code import normalise
from nbcache.plan.identity.fingerprint import component
from nbcache.plan.identity.module_reach import ModuleReach
from nbcache.plan.identity.noted import Noted, may_look_up
from nbcache.plan.identity.outline import apart
from nbcache.plan.identity.reach import Walker, combine
from nbcache.plan.identity.uses import Chain
from nbcache.plan.language.facts import BodyFacts
from nbcache.plan.language.quantities import size_text

LARGE = 500_000_000  # bytes of captured data from which on a note says how to do without


class PythonCapture:
    """One capture of one Python process."""

    def __init__(
        self,
        decl: ProcessDecl,
        facts: BodyFacts | None,
        namespace: Mapping[str, object],
        taken: set[str],
        folder: Path | None,
        around: dict[str, Surroundings] | None = None,
    ) -> None:
        self._decl, self._namespace, self._folder = decl, namespace, folder
        own, known = str(namespace.get("__name__", "__main__")), {} if around is None else around
        if own not in known:
            known[own] = Surroundings.of(namespace, folder)
        self._places, self._in_cells, self._of_inputs = known[own]
        self._names = BodyNames(decl.body, facts, namespace, taken)
        self._described = NamedComponents(decl.name, self._names, namespace, self._places)
        self._patches: dict[Patch, object] = {}  # those that count, with what is there
        self._sendable: dict[Patch, object] = {}  # those that were looked at
        self._unsendable: dict[Patch, str] = {}  # with the reason
        self._settings = InputSettings()
        self._notes: dict[str, None] = {}  # in order

    def take(self, send: bool) -> tuple[Captured, list[Component]]:
        asked: frozenset[Asked] = frozenset()
        while True:
            noted, components = self._walk(asked)
            self._names.read |= noted.annotated | noted.looked_up | noted.subclasses
            submodules = self._submodules_passed(noted)
            locals_, reach, changing = local_components(self._places, noted, asked)
            asks = asked | noted.asks | reach.asks
            patches = self._patches_for(noted, reach, [*components, *locals_])
            if asks == asked and patches.keys() == self._patches.keys():
                break
            asked, self._patches = asks, patches  # what does not count as a rule counts here
        self._settings = InputSettings(
            self._settings_of_inputs(noted, reach, [*components, *locals_])
        )
        packages = package_components(self._places, noted.packages | reach.packages)
        components += [
            *locals_,
            *packages,
            python_component(),
            *host_components(asked, self._decl.directives.env),
        ]
        values = self._names.values()
        shared = shared_paths(values)
        if shared:
            text = "\n".join(" is ".join(each) for each in shared)
            components.append(component("sharing", "sharing", combine("sharing", shared), text))
        payload = Payload(b"", ())
        if send:
            payload = self._pickle(values, noted.looked_up, annotations="annotations" in asked)
        values |= {str(patch): value for patch, value in self._patches.items()}
        names = {name: described(value, name) for name, value in values.items()}
        found = Captured(
            components=(),
            payload=payload.data,
            buffers=payload.buffers,
            names=names,
            modules={
                name: self._places.sources[name]._replace(names=each.counted())
                for name, each in reach.modules.items()
                if name in self._places.sources
            },
            sys_path=tuple(self._places.path),
            imports=(
                *sorted(_submodules(self._namespace, noted.wanted) | {*submodules}),
                *changing,
            ),
            missing=self._names.missing(),
            sources=self._described.sources,
            texts=frozenset(noted.texts | reach.texts),
            helper_sources=tuple(
                textwrap.dedent(each)
                for each in (
                    *self._described.own_texts,
                    *(each.evidence for each in components if each.kind == "module"),
                )
                if each
            ),
            notes=tuple(self._notes),
            settings=self._settings,
        )
        if found.size > LARGE:
            self._note(
                f"captures {size_text(found.size)}, which every worker "
                "reads; pass it as an input or as a file, or make it with @nbcache.resource"
            )
            found = replace(found, notes=tuple(self._notes))
        return found, components

    def _walk(self, asked: frozenset[Asked]) -> tuple[Noted, list[Component]]:
        walker = Walker(self._namespace, self._places, source_of, asked=asked)
        noted, names = walker.noted, self._names
        noted.used(names.uses, own=names.bound)
        if may_look_up(names.uses):
            noted.looks_up(names.tree, at_top=True, own=names.own)
        components = [
            component(
                "code",
                "body",
                self._body_digest(asked),
                place_of_body(self._decl),
                self._decl.body,
            )
        ]
        for patch, value in self._patches.items():
            components.append(self._described.component(walker, str(patch), value))
        done = set(self._decl.directives.ignore)
        noted.look_up_in_texts(names.own)
        while waiting := sorted(noted.wanted.keys() - done):
            for name in waiting:
                done.add(name)
                if names.counts(name):
                    value = self._namespace[name]
                    components.append(self._described.component(walker, name, value))
            noted.look_up_in_texts(names.own)
        for found in noted.whole:
            self._note(
                f"`{found.text}` has all names of the notebook at hand; in its tasks there are "
                "those that its code or its texts name, and only they count"
            )
        if noted.unknown is not None and not noted.puts_names:
            raise FingerprintError(
                f"process {self._decl.name!r}: `{noted.unknown.text}` reads names of the notebook "
                "that are known only when it runs, so nobody can tell what counts.\n  Put what it "
                'may read into a dict, in another cell, and read that: CHOICES = {"a": a, "b": b}.'
            )
        return noted, components

    def _submodules_passed(self, noted: Noted) -> list[str]:
        """Return the modules that `import a.b` in a cell made part of `a`, which is used as a
        whole, and note that they are reached."""
        found = [
            name
            for name in self._in_cells.submodules
            if name in sys.modules and not noted.passed.isdisjoint(_around(name))
        ]
        for name in found:
            noted.module_read(name, {()})
        return found

    def _body_digest(self, asked: frozenset[Asked]) -> Digest:
        if "source" in asked:
            return identity_digest(b"source\0" + self._decl.body.encode("utf-8", "surrogatepass"))
        return identity_digest(normalise(self._names.tree, docstrings="docstrings" in asked))

    def _patches_for(
        self, noted: Noted, reach: ModuleReach, components: list[Component]
    ) -> dict[Patch, object]:
        """Return what cells set in modules that the body reaches, and note what it cannot have."""
        found: dict[Patch, object] = {}
        texts = self._texts(components)
        for patch in self._in_cells.reached(noted, reach, self._places, texts):
            if patch.counts_for_text_alone() and not makes_text(texts):
                continue
            if self._is_sendable(patch):
                found[patch] = self._sendable[patch]
            else:
                reason = self._unsendable[patch]
                self._note(f"{patch}, which a cell sets, is not set in its tasks: {reason}")
        for how in self._in_cells.unnamed(noted, reach, self._places):
            self._note(f"what {how} in a cell sets is not set in its tasks; do it in the body")
        return found

    def _settings_of_inputs(
        self, noted: Noted, reach: ModuleReach, components: list[Component]
    ) -> Iterator[InputSetting]:
        """Yield what cells set in modules that an input alone may bring to the body."""
        if not self._decl.inputs:
            return
        for patch in self._in_cells.unreached(noted, reach, self._places):
            if patch.counts_for_text_alone() and not makes_text(self._texts(components)):
                continue
            if patch not in self._of_inputs:
                leaf = value_leaf(self._namespace, self._folder)
                self._of_inputs[patch] = InputSetting.of(patch, leaf)
            yield self._of_inputs[patch]

    def _texts(self, components: list[Component]) -> list[str | None]:
        written = (apart(each.evidence)[0] for each in components)
        return [*written, *self._described.folded_texts]

    def _is_sendable(self, patch: Patch) -> bool:
        """Say whether what is at a place can be sent, which is looked at once."""
        if patch not in self._sendable and patch not in self._unsendable:
            value = patch.value()
            try:
                Walker(self._namespace, self._places, source_of).digest(value)
                pickle_names({str(patch): value}, self._namespace)
                self._sendable[patch] = value
            except Exception as error:  # whatever a foreign object raises
                self._unsendable[patch] = str(error).partition("\n")[0]
        return patch in self._sendable

    def _note(self, text: str) -> None:
        self._notes[f"process {self._decl.name!r}: {text}"] = None

    def _pickle(
        self, values: Mapping[str, object], everywhere: Collection[str], *, annotations: bool
    ) -> Payload:
        if self._patches:
            values = {**values, PATCHES: list(self._patches.items())}
        if self._settings:
            values = {**values, OF_INPUTS: self._settings.sent()}
        try:
            return pickle_names(
                values, self._namespace, annotations=annotations, everywhere=everywhere
            )
        except Exception as error:  # whatever a foreign object raises when it is pickled
            guilty = next((name for name, each in values.items() if not _pickles(each)), None)
            which = "what it captures" if guilty is None else f"captured name {guilty!r}"
            raise FingerprintError(
                f"process {self._decl.name!r}: {which} cannot be sent to a worker "
                f"({type(error).__name__}: {error}).\n  Make it once per worker: "
                "@nbcache.resource def ...(): ...; or pass plain data instead."
            ) from error


def _submodules(namespace: Mapping[str, object], wanted: Mapping[str, set[Chain]]) -> set[str]:
    """Return the submodules that are read off captured modules: `import a.b` binds only `a`."""
    found: set[str] = set()
    for name, chains in wanted.items():
        value = namespace[name]
        if isinstance(value, types.ModuleType):
            for chain in chains:
                full = value.__name__
                for step in chain:
                    full = f"{full}.{step}"
                    if full not in sys.modules:
                        break
                    found.add(full)
    return found


def _around(module: str) -> list[str]:
    """Return the packages around a module: of a.b.c, a and a.b."""
    steps = module.split(".")
    return [".".join(steps[:count]) for count in range(1, len(steps))]


def _pickles(value: object) -> bool:
    try:
        pickle_names({"value": value}, {})
    except Exception:
        return False
    return True
