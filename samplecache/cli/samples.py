"""put, ls, show, update, rm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from samplecache.audio.format import AudioFormat
from samplecache.cli.connect import connect
from samplecache.cli.values import EncodingName, JsonFlag, SampleId, encoding_of, parse_raw_format
from samplecache.errors import ConflictError, InvalidError, SamplecacheError

if TYPE_CHECKING:
    from samplecache.v1.sample_pb2 import Sample
    from samplecache.v1.samplecache_pb2 import PutSampleResponse

_R = TypeVar("_R")
_T = TypeVar("_T")
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="WORD", help="A word to find it by; repeatable.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (put, ls, show, update, rm):
        app.command()(command)


def put(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Audio files, or folders of them.")],
    sample_id: Annotated[str | None, typer.Option("--id", help="Id, for one file; else made from its name.")] = None,
    raw: Annotated[
        AudioFormat | None,
        typer.Option(parser=parse_raw_format, metavar="RATE:CHANNELS:ENCODING", help="The files are raw PCM."),
    ] = None,
    encoding: Annotated[EncodingName | None, typer.Option(help="Encoding to store; else the file's own.")] = None,
    tags: Tags = None,
    pin: Annotated[bool, typer.Option("--pin", help="Never evict from the store.")] = False,
    strategy: Annotated[str, typer.Option(help="Strategy for requests that name none.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace samples of the same id.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Upload audio files. One that fails does not stop the others."""
    from samplecache.cli import render
    from samplecache.cli.document import document, print_json
    from samplecache.cli.sound_files import SoundFile, find
    from samplecache.client import sample_id_of

    found = list(find(paths))
    if sample_id is not None and len(found) != 1:
        raise typer.BadParameter(f"it names one sample, but {len(found)} files were given", param_hint="--id")
    failures = _Failures("file")
    stored: list[tuple[Path, PutSampleResponse]] = []
    taken: dict[str, Path] = {}
    with connect(context) as client, render.progress(in_bytes=True) as progress:

        def put_one(file: SoundFile) -> PutSampleResponse:
            chosen_id = sample_id_of(file.name) if sample_id is None else sample_id
            if (other := taken.setdefault(chosen_id, file.path)) != file.path:
                raise ConflictError(
                    f"{file.path} would have the id {chosen_id!r} of {other}",
                    remedy="Rename one of them, or upload it alone with --id",
                )
            task = progress.add_task(chosen_id, total=file.path.stat().st_size)
            return client.put_file(
                file.path,
                chosen_id,
                raw_format=raw,
                store_encoding=encoding_of(encoding),
                tags=tags or (),
                pinned=pin,
                strategy=strategy,
                replace=replace,
                progress=lambda sent_bytes: progress.update(task, completed=sent_bytes),
            )

        for file in found:
            if isinstance(file, SamplecacheError):
                failures.add(file.details["file"], file)
            elif (response := failures.attempt(str(file.path), put_one, file)) is not None:
                stored.append((file.path, response))
    if as_json:
        uploaded = [{"file": str(path), **document(response)} for path, response in stored]
        print_json({"uploaded": uploaded, "errors": failures.documents})
    elif stored:
        rows = [_put_row(path, response) for path, response in stored]
        render.print_table(("id", "format", "length", "size", "file", ""), rows, empty="", numbers=("length", "size"))
    failures.exit()


def ls(context: typer.Context, tags: Tags = None, as_json: JsonFlag = False) -> None:
    """List samples, those that have all of the tags."""
    from samplecache.cli import render
    from samplecache.cli.document import document, print_json

    with connect(context) as client:
        samples = list(client.list_samples(tags or ()))
    if as_json:
        print_json({"samples": [document(sample) for sample in samples]})
        return
    columns = ("id", "format", "length", "size", "pinned", "playing", "strategy", "tags")
    rows = [
        (
            sample.sample_id,
            render.audio_format(sample.format),
            _length(sample),
            render.size(sample.size_bytes),
            render.yes_no(sample.pinned),
            sample.playing,
            sample.strategy,
            " ".join(sample.tags),
        )
        for sample in samples
    ]
    empty = "No sample has all of these tags." if tags else "No samples. Upload some with 'samplecache put FILE'."
    render.print_table(columns, rows, empty=empty, numbers=("length", "size", "playing"))


def show(context: typer.Context, sample_id: SampleId, as_json: JsonFlag = False) -> None:
    """Show one sample."""
    with connect(context) as client:
        sample = client.get(sample_id)
    _print_sample(sample, as_json)


def update(
    context: typer.Context,
    sample_id: SampleId,
    pin: Annotated[bool | None, typer.Option("--pin/--unpin", help="Whether the store may evict it.")] = None,
    tags: Tags = None,
    no_tags: Annotated[bool, typer.Option("--no-tags", help="Take all tags away.")] = False,
    strategy: Annotated[str | None, typer.Option(help="Strategy; '' for the server's.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a sample's pin, tags or strategy."""
    if no_tags and tags:
        raise typer.BadParameter("it excludes --tag", param_hint="--no-tags")
    new_tags = () if no_tags else tags
    if pin is None and new_tags is None and strategy is None:
        raise typer.BadParameter("there is nothing to change. Give --pin, --unpin, --tag, --no-tags or --strategy")
    with connect(context) as client:
        sample = client.update(sample_id, pinned=pin, tags=new_tags, strategy=strategy)
    _print_sample(sample, as_json)


def rm(
    context: typer.Context,
    sample_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Samples to remove.")],
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="It is no error if one is not there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove samples. What plays them plays them out."""
    from samplecache.cli.document import print_json

    failures = _Failures("sample_id")
    with connect(context) as client:

        def delete(sample_id: str) -> str:
            client.delete(sample_id, allow_missing=missing_ok)
            return sample_id

        removed = [name for name in sample_ids if failures.attempt(name, delete, name) is not None]
    if as_json:
        print_json({"removed": removed, "errors": failures.documents})
    else:
        for sample_id in removed:
            typer.echo(f"removed {sample_id}")
    failures.exit()


class _Failures:
    """What failed of several things of which each is tried.

    Parameters
    ----------
    kind : str
        What they are, as a key in JSON.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.documents: list[dict[str, str]] = []
        self.hopeless = False
        """Whether no server answers, so that the rest would fail likewise."""

    def attempt(self, name: str, action: Callable[[_T], _R], thing: _T) -> _R | None:
        """Return what `action` makes of `thing`, or None if it fails."""
        from samplecache.client import ClientError

        if self.hopeless:
            return None
        try:
            return action(thing)
        except SamplecacheError as error:
            self.hopeless = isinstance(error, ClientError) and error.code.name == "UNAVAILABLE"
            self.add(name, error)
        except OSError as error:
            problem = error.strerror or str(error)
            self.add(name, InvalidError(f"it cannot be read: {problem}", remedy="Check the file", reason="UNREADABLE"))
        return None

    def add(self, name: str, error: SamplecacheError) -> None:
        """Complain about one, and remember it."""
        typer.echo(f"error: {name}: {error}", err=True)
        self.documents.append(
            {self._kind: name, "reason": error.reason_code, "message": error.message, "remedy": error.remedy}
        )

    def exit(self) -> None:
        """Exit with 1 if anything failed."""
        if self.documents:
            raise typer.Exit(1)


def _put_row(path: Path, response: PutSampleResponse) -> tuple[Any, ...]:
    from samplecache.cli import render

    sample = response.sample
    notes = ["shares memory with the same sound"] if response.deduplicated else []
    if response.evicted_sample_ids:
        notes.append(f"evicted {' '.join(response.evicted_sample_ids)}")
    size = render.size(sample.size_bytes)
    return (sample.sample_id, render.audio_format(sample.format), _length(sample), size, path, ", ".join(notes))


def _length(sample: Sample) -> str:
    from samplecache.cli import render
    from samplecache.clock import NS_PER_S

    return render.duration(sample.frames * NS_PER_S // sample.format.rate_hz)


def _print_sample(sample: Sample, as_json: bool) -> None:
    from samplecache.cli import render
    from samplecache.cli.document import document, print_json

    if as_json:
        print_json(document(sample))
        return
    render.print_facts(
        (
            ("id", sample.sample_id),
            ("format", render.audio_format(sample.format)),
            ("source", sample.source),
            ("length", f"{_length(sample)} ({sample.frames} frames)"),
            ("size", f"{render.size(sample.size_bytes)} ({render.size(sample.charged_bytes)} of the budget)"),
            ("sha-256", sample.content_sha256.hex()),
            ("tags", " ".join(sample.tags) or "none"),
            ("pinned", render.yes_no(sample.pinned)),
            ("strategy", sample.strategy or "the server's"),
            ("stored", sample.create_time.ToJsonString()),
            ("shared with", f"{sample.shared_with} other samples"),
            ("playing", f"{sample.playing} sessions"),
        )
    )
