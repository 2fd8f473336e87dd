"""The generated clients as a table: from which document, by which commands, and what they leave to the caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field

OPENAPI_3_1 = "openapi/openapi.json"
OPENAPI_3_0 = "openapi/openapi-3.0.json"

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Needed:
    """A program, or a file of a package, that comes from the system; and Debian's package that has it."""

    name: str
    package: str


@dataclass(frozen=True, slots=True)
class Client:
    """One generated client. Its commands run in a folder that holds its program; `generated` there is the client.

    `{document}` and `{libraries}` in a command are filled in. `unshown` are arguments that only make it quicker.
    `in_make_test`: it needs nothing but what pip and npm install. `left` says, for a step, what the generator leaves to
    the caller.
    """

    name: str
    language: str
    document: str
    generate: Command
    run: Command
    build: tuple[Command, ...] = ()
    unshown: Command = ()
    in_make_test: bool = False
    needs: tuple[Needed, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)


def _openapi_generator(generator: str, *options: str) -> Command:
    return ("openapi-generator-cli", "generate", "-g", generator, "-i", "{document}", "-o", "generated", *options)


_SOURCE_ONLY = ("--global-property", "apiTests=false,modelTests=false,apiDocs=false,modelDocs=false")
_COMPILE_TYPESCRIPT = ("tsc", "--project", "tsconfig.json")
_RUN_TYPESCRIPT = ("node", "js/program.js")
_STREAM_OR_JSON = "the type is that of JSON or of a stream's text, and the caller has to tell"
_DATES_ARE_TEXT = "dates are text, which the caller parses and writes"

CLIENTS = (
    Client(
        name="openapi-generator-python",
        language="Python",
        document=OPENAPI_3_0,
        generate=_openapi_generator("python"),
        unshown=_SOURCE_ONLY,
        run=("python", "program.py"),
        in_make_test=True,
        left=dict.fromkeys(("start", "repeat"), "the names of headers are in lower case, as they were sent"),
    ),
    Client(
        name="openapi-python-client",
        language="Python",
        document=OPENAPI_3_1,
        generate=("openapi-python-client", "generate", "--path", "{document}", "--output-path", "generated"),
        run=("python", "program.py"),
        in_make_test=True,
        left={"wait": "the client gives up after 5 s unless it is made with a longer `timeout`"},
    ),
    Client(
        name="openapi-typescript",
        language="TypeScript (openapi-fetch)",
        document=OPENAPI_3_1,
        generate=("openapi-typescript", "{document}", "--default-non-nullable", "false", "-o", "generated/schema.d.ts"),
        build=(_COMPILE_TYPESCRIPT,),
        run=_RUN_TYPESCRIPT,
        in_make_test=True,
        left={
            "wait": _DATES_ARE_TEXT,
            "list": _DATES_ARE_TEXT,
            "log": 'text that is not JSON is requested by `parseAs: "text"`',
            "events": _STREAM_OR_JSON,
        },
    ),
    Client(
        name="openapi-generator-typescript-fetch",
        language="TypeScript",
        document=OPENAPI_3_0,
        generate=_openapi_generator("typescript-fetch"),
        unshown=_SOURCE_ONLY,
        build=(_COMPILE_TYPESCRIPT,),
        run=_RUN_TYPESCRIPT,
        left=dict.fromkeys(
            ("missing", "busy"), "the error holds the answer unread; `ProblemFromJSON` makes the problem of it"
        ),
    ),
    Client(
        name="hey-api",
        language="TypeScript",
        document=OPENAPI_3_1,
        generate=("openapi-ts", "-i", "{document}", "-o", "generated"),
        build=(_COMPILE_TYPESCRIPT,),
        run=_RUN_TYPESCRIPT,
        left={"wait": _DATES_ARE_TEXT, "list": _DATES_ARE_TEXT},
    ),
    Client(
        name="orval",
        language="TypeScript",
        document=OPENAPI_3_1,
        generate=("orval", "--config", "orval.config.mjs"),
        build=(_COMPILE_TYPESCRIPT,),
        run=_RUN_TYPESCRIPT,
        left={
            "start": "a function of the caller sends all requests, and adds the address and the key",
            "wait": "the types say Date and the answer holds text; the same function makes the dates",
            "events": _STREAM_OR_JSON,
        },
    ),
    Client(
        name="openapi-generator-java",
        language="Java (native)",
        document=OPENAPI_3_0,
        generate=_openapi_generator(
            *("java", "--library", "native"),
            *("--additional-properties", "openApiNullable=false"),
        ),
        unshown=_SOURCE_ONLY,
        build=(
            (
                *("javac", "-nowarn", "--release", "11", "-classpath", "{libraries}", "-d", "classes"),
                *("-sourcepath", "generated/src/main/java", "Program.java"),
            ),
        ),
        run=("java", "-classpath", "classes:{libraries}", "Program"),
        needs=(
            Needed("javac", "default-jdk-headless"),
            Needed("/usr/share/java/geronimo-annotation-1.3-spec.jar", "libgeronimo-annotation-1.3-spec-java"),
        ),
        left={
            "start": "the key is added by an interceptor of the caller",
            **dict.fromkeys(
                ("missing", "busy"), "the exception holds the body as text; the client's mapper reads the problem"
            ),
        },
    ),
    Client(
        name="openapi-generator-go",
        language="Go",
        document=OPENAPI_3_0,
        generate=_openapi_generator(
            *("go", "--package-name", "ngt", "--git-host", "ngt-renewal.test"),
            *("--git-user-id", "clients", "--git-repo-id", "go"),
            *("--additional-properties", "disallowAdditionalPropertiesIfNotPresent=false"),
        ),
        unshown=_SOURCE_ONLY,
        build=(
            ("cp", "-r", "program", "generated/program"),
            (
                *("env", "--chdir", "generated", "GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local"),
                *("go", "build", "-o", "../renew", "./program"),
            ),
        ),
        run=("./renew",),
        needs=(Needed("go", "golang-go"),),
        left={"start": "without the additional property of the command it refuses members that it does not know"},
    ),
)
