"""The command ``emobeam models export``."""

from __future__ import annotations

import json

import click


@click.command(short_help="A head as an ONNX file.")
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
        click.echo(json.dumps(done, indent=2, ensure_ascii=False))
        return
    inputs = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in done["inputs"].items())
    click.echo(f"{output}: {done['head']}, {done['parameters'] / 1e6:.3f} M parameters")
    click.echo(f"inputs: {inputs}{', valid windows' if done['scope'] == 'clip' else ''}")
    click.echo(f"values: {', '.join(done['outputs'])}; at most {done['difference_from_torch']:.1e} off torch")
