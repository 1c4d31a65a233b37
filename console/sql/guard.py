"""Which statements may run: a judgement of a statement's normal form.

The engine's own `readonly` is not enough (measured on ClickHouse 26.9): `SELECT file('/etc/passwd')`,
`DESCRIBE url(…)`, `INTO OUTFILE`, several statements in one, and `KILL QUERY` pass it. So a
statement is first brought to normal form by the engine's own parser (`formatQuery`: one statement,
no comments, one way of quoting), then judged here, and the normal form is what runs. Nothing can
hide in a difference between this tokenizer and the engine's, since only one of them reads the original.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from console.answers import RefusedError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SAFE_TABLE_FUNCTIONS: Final = _names(
    "format generate_series generaterandom generateseries null numbers numbers_mt primes sqlstandardvalues "
    "values view viewifpermitted zeros zeros_mt"
)

REACHING_OUT: Final = _names(
    "azureblobstorage azureblobstoragecluster arrowflight bigquery cluster clusterallreplicas cosn deltalake "
    "deltalakelocal dictionary eval executable file filecluster filesystem gcs hdfs hdfscluster hudi iceberg "
    "iceberglocal input jdbc loop merge mongodb mysql odbc oss paimon postgresql python redis remote remotesecure s3 "
    "s3cluster sqlite url urlcluster ytsaurus"
)
"""Table functions that are refused even where the engine's own list cannot be read."""

_REACHING_FUNCTIONS: Final = _names(
    "addresstoline addresstolinewithinlines addresstosymbol catboostevaluate evalmlmethod file generateserialid "
    "getclienthttpheader hascolumnintable logtrace showcertificate"
)
_REACHING_PREFIXES: Final = ("ai",)
"""`aiGenerate` and its like send what they are given to a service."""

_OPEN_SYSTEM_TABLES: Final = _names(
    "build_options columns contributors data_skipping_indices data_type_families databases formats functions licenses "
    "merges mutations numbers numbers_mt one parts parts_columns projections projection_parts settings table_functions "
    "tables time_zones zeros zeros_mt"
)
_SHOWN: Final = ("TABLES", "DATABASES", "COLUMNS", "INDEXES", "FUNCTIONS")
_AFTER_A_COLUMN: Final = ("ASC", "DESC", "NULLS", "END", "FROM", "WHERE", "SETTINGS")
_EXPLAINED: Final = ("AST", "SYNTAX", "QUERY", "TREE", "PLAN", "PIPELINE", "ESTIMATE")

READ_ONLY_REMEDY: Final = (
    "The console only reads: one SELECT, WITH … SELECT, DESCRIBE, SHOW, EXISTS or EXPLAIN SELECT at a time."
)

_TOKEN: Final = re.compile(
    r"""\s+
    |(?P<string>'(?:[^'\\]|\\.|'')*')
    |(?P<quoted>`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9][A-Za-z0-9_]*(?:\.[0-9]*)?)
    |(?P<comment>--|/\*|\#|\$)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A piece of a statement; `text` of a quoted name is what stands between the quotes."""

    kind: Literal["string", "quoted", "word", "number", "comment", "sign"]
    text: str

    @property
    def is_name(self) -> bool:
        """Whether it can name a function or a table."""
        return self.kind in ("word", "quoted")

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these keywords, unquoted."""
        return self.kind == "word" and self.text.upper() in words


_END: Final = Token("sign", "")


def tokens(statement: str) -> Iterator[Token]:
    """Cut a statement in normal form into tokens; blanks are left out."""
    for match in _TOKEN.finditer(statement):
        kind = match.lastgroup
        if kind == "quoted":
            yield Token("quoted", re.sub(r"\\(.)", r"\1", match.group()[1:-1]))
        elif kind is not None:
            yield Token(kind, match.group())  # type: ignore[arg-type]  # the groups are the kinds


def refused(message: str, remedy: str = READ_ONLY_REMEDY) -> RefusedError:
    """Return the answer to a statement that may not run."""
    return RefusedError(403, "statement_refused", message, remedy)


def judge(statement: str, table_functions: frozenset[str] = REACHING_OUT) -> None:
    """Raise RefusedError (403) unless `statement`, in normal form, only reads what the store holds.

    `table_functions` are the engine's table functions in lower case: any of them that is not known
    to be safe is refused, so that a newer engine's are as well.
    """
    parts = list(tokens(statement))
    _judge_kind(parts)
    forbidden = (table_functions | REACHING_OUT) - SAFE_TABLE_FUNCTIONS | _REACHING_FUNCTIONS
    if len(parts) > 2 and parts[-2].is_word("FORMAT") and parts[-1].is_name and not parts[-1].is_word(*_AFTER_A_COLUMN):
        raise refused(
            "FORMAT is not part of the statement here.",
            "Leave it out and ask with the parameter `format`: json, jsonl, csv, tsv, arrow or pretty.",
        )
    for before, token, after in zip([_END, *parts], parts, [*parts[1:], _END], strict=False):
        if token.kind == "comment":
            raise refused(f"{token.text} cannot be judged.", "Write the statement without it.")
        if token.is_word("INTO") and after.is_word("OUTFILE"):
            raise refused("INTO OUTFILE writes a file.", "Leave it out and save the answer: it comes in any `format`.")
        if token.is_word("INSERT") and after.is_word("INTO"):
            raise refused("INSERT writes.")
        if token.is_name:
            called = after.text == "(" or before.is_word("APPLY")
            if called and _reaches_out(token.text.lower(), forbidden):
                raise refused(
                    f"The function {token.text} is not open here: it can reach outside the store.",
                    "Only tables of the store can be read; see what there is with SHOW TABLES.",
                )
    _judge_tables(parts)


def _reaches_out(name: str, forbidden: frozenset[str]) -> bool:
    return name in forbidden or (name.startswith(_REACHING_PREFIXES) and name[2:3].isalpha())


def _judge_kind(parts: list[Token]) -> None:
    """Refuse a statement that is not of a kind that only reads."""
    first = next((token for token in parts if token.text != "("), _END)
    rest = parts[1:]
    if (
        first.is_word("SELECT", "WITH", "EXISTS")
        or (first.is_word("DESCRIBE") and rest and rest[0].is_word("TABLE"))
        or (first.is_word("SHOW") and _shows_structure(rest))
        or (first.is_word("EXPLAIN") and _explains_a_query(rest))
    ):
        return
    kind = " ".join(token.text for token in parts[:2] if token.kind == "word").upper()
    raise refused(f"{kind or 'This statement'} may not run here.")


def _shows_structure(rest: list[Token]) -> bool:
    while rest and rest[0].is_word("FULL", "EXTENDED"):
        rest = rest[1:]
    if not rest:
        return False
    return rest[0].is_word(*_SHOWN) or (
        rest[0].is_word("CREATE") and len(rest) > 1 and rest[1].is_word("TABLE", "VIEW")
    )


def _explains_a_query(rest: list[Token]) -> bool:
    while rest and rest[0].is_word(*_EXPLAINED):
        rest = rest[1:]
    while len(rest) > 3 and rest[1].text == "=":  # options: `header = 1, actions = 1`
        rest = rest[4:] if rest[3].text == "," else rest[3:]
    return next((token for token in rest if token.text != "("), _END).is_word("SELECT", "WITH")


def _judge_tables(parts: list[Token]) -> None:
    """Refuse paths in the place of tables, and system tables that show other people's queries or the machine."""
    asks_for_structure = not parts[0].is_word("SELECT", "WITH") and parts[0].text != "("
    for position, token in enumerate(parts[:-1]):
        after = parts[position + 1]
        stands_for_table = asks_for_structure or token.is_word("FROM", "JOIN", "IN")
        if stands_for_table and after.kind == "quoted" and "/" in after.text:
            raise refused(
                f"`{after.text}` looks like a file or an address.",
                "Only tables of the store can be read; see what there is with SHOW TABLES.",
            )
        if token.is_name and token.text.lower() == "system" and after.text == ".":
            name = parts[position + 2] if position + 2 < len(parts) else _END
            if not name.is_name or name.text.lower() not in _OPEN_SYSTEM_TABLES:
                raise refused(
                    f"system.{name.text} is not open here.",
                    f"These system tables are: {', '.join(sorted(_OPEN_SYSTEM_TABLES))}.",
                )
