"""An import-linter contract that import-linter lacks: a list of what may be imported, so that a new module is shut until it is opened."""

from __future__ import annotations

from typing import Any, ClassVar

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowListContract(Contract):
    """`importers` (packages) import nothing of `package` but the modules of `allowed`. Wildcards as elsewhere in import-linter.

    Direct imports only: what an allowed module needs in turn is the matter of `forbidden` contracts.
    """

    type_name: ClassVar[str] = "allow_list"

    importers = fields.SetField(subfield=fields.ModuleField())
    package = fields.ModuleField()
    allowed = fields.SetField(subfield=fields.ModuleExpressionField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - the signature is theirs
        """Every import of `package` from `importers` that is not on the list."""
        package: str = self.package.name  # type: ignore[attr-defined]  # fields become values when a contract is made
        allowed = set().union(*(graph.find_matching_modules(e.expression) for e in self.allowed))  # type: ignore[attr-defined]
        shut = ({package} | graph.find_descendants(package)) - allowed
        breaches = [
            detail
            for importer in self.importers  # type: ignore[attr-defined]
            for module in sorted({importer.name} | graph.find_descendants(importer.name))
            for imported in sorted(graph.find_modules_directly_imported_by(module) & shut)
            for detail in graph.get_import_details(importer=module, imported=imported)
        ]
        return ContractCheck(kept=not breaches, metadata={"breaches": breaches})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line an import, as `importer -> imported (line)`."""
        breaches: list[dict[str, Any]] = check.metadata["breaches"]
        for breach in breaches:
            output.print_error(f"{breach['importer']} -> {breach['imported']} (l.{breach['line_number']})", bold=False)
