"""The command ``models``: what can be had, fetching, converting and exporting it. ``cli`` puts it beside the others."""

from __future__ import annotations

import json

import click

from emobeam.pipelines.printing import echo
from emobeam.schemas.wording import counted


@click.group(invoke_without_command=True, short_help="Weights: list, show, fetch, prepare, convert, pack.")
@click.pass_context
def models(ctx: click.Context) -> None:
    """Weights that come with emobeam and published backbones: lists them with their terms (the default), fetches,
    prepares, converts and packs them.

    Nothing is downloaded unless models fetch is called, and its terms accepted. Fetched files lie in EMOBEAM_MODELS,
    by default in the user's folder for caches (~/.cache/emobeam/models).

    \b
    Examples:
      emobeam models
      emobeam models show
      emobeam models fetch enet_b0_8_va_mtl --accept-licence
      emobeam models convert old_network.pt --output network.safetensors --architecture enet_b2_8
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@models.command(name="list", short_help="What can be had, and on which terms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def list_(as_json: bool = False) -> None:
    """Lists all models: what comes with emobeam, then what can be fetched, with network, input in px, length of the
    embedding, what the scores are of, and terms.

    With --json a list, whose first entry is what comes with emobeam ("shipped": true).

    "Ready for" names the tasks whose values the network's own scores are, without a head.

    \b
    Example:
      emobeam models list --json
    """
    from emobeam.pipelines.models import describe_models, describe_shipped, print_models, print_shipped

    ours, described = describe_shipped(), describe_models()
    if as_json:
        echo(json.dumps([{"shipped": True, **ours}, *described], indent=2, ensure_ascii=False))
        return
    print_shipped(ours)
    echo("\npublished by others:")
    print_models(described)


@models.command(short_help="The weights that come with emobeam.")
@click.option("--card", is_flag=True, help="Print the model card: data, licences, results, limits.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def show(card: bool, as_json: bool) -> None:
    """Shows the weights that are used where nobody names any: files, digests, what is experimental or unknown.

    emobeam inspect shipped describes the head in full. timm and safetensors read the files by themselves.

    \b
    Examples:
      emobeam models show
      emobeam models show --card
    """
    from pathlib import Path

    from emobeam.pipelines.models import describe_shipped, print_shipped

    data = describe_shipped()
    if card:
        echo(Path(data["model_card"]).read_text("utf-8"))
    elif as_json:
        echo(json.dumps(data, indent=2, ensure_ascii=False))
    else:
        print_shipped(data)


@models.command(short_help="A trained backbone and heads, small and ready to hand on.")
@click.option("--backbone", default="", show_default=False, metavar="FILE", help="Trained weights; goes first.")
@click.option("--head", "heads", multiple=True, metavar="HEAD", help="Trained on features of the packed backbone.")
@click.option("--name", default="", show_default=False, metavar="NAME", help="With --backbone, such as lab-au-1.")
@click.option(
    "--architecture",
    default="",
    show_default=False,
    metavar="NAME",
    help="timm's name of the backbone.  [default: what the file says]",
)
@click.option("--output", required=True, metavar="FOLDER", help="Folder for the packed files.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def pack(
    backbone: str, heads: tuple[str, ...], name: str, architecture: str, output: str, as_json: bool, quiet: bool
) -> None:
    """Rounds a backbone, then heads, to float16, as those are that come with emobeam: half the size, plain safetensors.

    Pack the backbone first, extract features with the packed file, train the heads on these, and pack them into the
    same folder: so they agree to the bit. Paths of this machine are left out of what is packed.

    \b
    Examples:
      emobeam models pack --backbone affectnet/backbone.safetensors --name lab-au-1 --output lab/
      emobeam extract videos/ --backbone-weights lab/backbone.safetensors --output features/
      emobeam train features/ --task au --labels labels/ --output heads/au
      emobeam models pack --head heads/au --output lab/
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.models import run_pack

    done = run_pack(
        output, backbone=backbone, heads=heads, name=name, architecture=architecture, ui=make_ui(quiet=quiet)
    )
    if as_json:
        echo(json.dumps(done, indent=2))
        return
    if quiet:
        return
    for file in done["files"]:
        echo(f"{file['path']}: {file['bytes'] / 1e6:.2f} MB, sha256 {file['sha256'][:12]}")
    echo(f"{done['name']}: {done['bytes'] / 1e6:.2f} MB, features {done['features_id']}")


@models.command(short_help="Download a model and check it.")
@click.argument("name", metavar="NAME")
@click.option("--accept-licence", is_flag=True, help="You have read the terms and they suit your use.")
@click.option(
    "--output",
    default="",
    show_default=False,
    metavar="DIR",
    help="Folder for the file.  [default: EMOBEAM_MODELS or the user's cache]",
)
@click.option(
    "--sha256",
    default="",
    show_default=False,
    metavar="HEX",
    help="Digest the file must have.  [default: the list's, else the first download's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def fetch(name: str, accept_licence: bool, output: str, sha256: str, as_json: bool, quiet: bool) -> None:
    """Downloads a model of the list, checks its sha256, and prints where it lies.

    Where nobody published a digest, the first download's is written down beside the file and holds from then on; one
    that you trust is given with --sha256. Files elsewhere are known by their name: --backbone-weights
    weights/mbf_va_mtl.pt has the model's input size, normalisation and names of its scores.

    \b
    Examples:
      emobeam models fetch mbf_va_mtl --accept-licence --output weights/
      emobeam extract videos/ --backbone-weights weights/mbf_va_mtl.pt --output features/
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.models import fetch_model

    result = fetch_model(name, accepted=accept_licence, folder=output, ui=make_ui(quiet=quiet), sha256=sha256)
    if as_json:
        data = {"name": name, "path": str(result.path), "sha256": result.sha256, "bytes": result.bytes}
        echo(json.dumps({**data, "downloaded": result.downloaded}, indent=2))
    else:
        echo(str(result.path))


@models.command(short_help="Make networks ready for OpenVINO ahead of a run.")
@click.option(
    "--backbone", default="", show_default=False, metavar="NAME", help="As for extract.  [default: that of the weights]"
)
@click.option(
    "--backbone-weights",
    default="",
    show_default=False,
    metavar="FILE|URI|NAME",
    help="As for extract.  [default: those that come with emobeam]",
)
@click.option(
    "--input-size",
    type=click.IntRange(32, 1024),
    default=None,
    metavar="PX",
    help="Edge of the crops it sees.  [default: what it was made for]",
)
@click.option(
    "--store",
    default="",
    show_default=False,
    metavar="LIST",
    help="What it is to give: maps, embedding, scores.  [default: maps]",
)
@click.option("--head", "heads", multiple=True, metavar="HEAD", help="Folder of a head, or shipped; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def prepare(
    backbone: str,
    backbone_weights: str,
    input_size: int | None,
    store: str,
    heads: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Turns networks into what OpenVINO reads, once per machine: the first run then begins at once, and runs need no
    torch. Without options: the backbone and the heads that come with emobeam.

    They lie in EMOBEAM_PREPARED, by default in the user's folder for caches (~/.cache/emobeam/prepared). Each is
    compared with what torch's network gives compiled directly, to the bit. Runs prepare by themselves what is missing;
    prepare ahead for images of workers, and for machines without torch.

    \b
    Examples:
      emobeam models prepare
      emobeam models prepare --backbone-weights enet_b0_8_va_mtl --store embedding,scores --head heads/va
    """
    from emobeam.pipelines.console import make_ui
    from emobeam.pipelines.prepare_models import prepare_models

    done = prepare_models(
        backbone=backbone,
        weights=backbone_weights,
        input_size=input_size or 0,
        store=tuple(name.strip() for name in store.split(",") if name.strip()),
        heads=heads,
        ui=make_ui(quiet=quiet),
    )
    if as_json:
        echo(json.dumps(done, indent=2))
        return
    for each in done if not quiet else []:
        echo(f"{each['network']}: ready in {each['place']}")


@models.command(short_help="A checkpoint of any form to safetensors.")
@click.argument("file", metavar="FILE")
@click.option("--output", required=True, metavar="FILE", help="The .safetensors file to write.")
@click.option(
    "--architecture",
    default="",
    show_default=False,
    metavar="NAME",
    help="Network it has to fit: timm's name, mobilefacenet, ddamfn; best a name of the list.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only.")
def convert(file: str, output: str, architecture: str, as_json: bool, quiet: bool) -> None:
    """Writes state dicts, wrapped checkpoints (averaged weights first) and pickled modules as safetensors.

    Pickles are read as data: a file that asks for code to run is refused, and nothing it names is imported. With a
    name of the list the file also tells its input size, normalisation and what its scores are of.

    \b
    Example:
      emobeam models convert enet_b0_8_va_mtl.pt --output enet.safetensors --architecture enet_b0_8_va_mtl
    """
    from emobeam.pipelines.convert_weights import convert as run_convert

    done = run_convert(file, output, architecture=architecture)
    if as_json:
        echo(json.dumps(done, indent=2))
        return
    if quiet:
        return
    of = f" of {done['source_class']}" if done["source_class"] else ""
    scores = f", {counted(done['scores'], 'score')}" if done["scores"] else ""
    text = (
        f"{done['output']}: {counted(done['tensors'], 'tensor')}, {done['parameters'] / 1e6:.2f} M numbers{of}{scores}"
    )
    echo(f"{text}, weights {done['weights_sha256'][:12]}")


@models.command(short_help="A head as an ONNX file.")
@click.argument("head", metavar="HEAD")
@click.option("--output", required=True, metavar="FILE.onnx", help="The file to write.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def export(head: str, output: str, as_json: bool) -> None:
    """Writes a head as ONNX, for programs that run without torch; needs pip install emobeam[onnx].

    The graph takes float32 columns of the cache by their names, any number of windows, and gives values after the
    activation. What it gives is compared with torch first; a difference above 1e-5 of the range is an error.

    \b
    Example:
      emobeam models export heads/au --output au.onnx
    """
    from emobeam.pipelines.export_head import run_export

    done = run_export(head, output)
    if as_json:
        echo(json.dumps(done, indent=2, ensure_ascii=False))
        return
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in done["inputs"].items())
    echo(f"{output}: {done['head']}, {done['parameters'] / 1e6:.3f} M parameters")
    echo(f"inputs: {inputs}{', valid windows' if done['scope'] == 'clip' else ''}")
    echo(f"values: {', '.join(done['outputs'])}; at most {done['difference_from_torch']:.1e} off torch")
