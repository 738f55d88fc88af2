"""What a person sees of a caption: the words, how sure, and the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from flows.console import console_for

if TYPE_CHECKING:
    from tasks.caption import Caption


def show_caption(caption: Caption) -> None:
    """The caption of one medium, and the captions that speak for it."""
    console = console_for()
    by = f", written by {caption.generator}" if caption.generator else ""
    line = Text.assemble(f"{caption.query}: ", (caption.text, "bold"), f" (agreement {caption.score:.2f}{by})")
    console.print(line, highlight=False)
    for note in caption.notes:
        console.print(f"[yellow]{note}[/]")
    table = Table()
    for name in ("#", "score", "agrees", "fits", "likeness"):
        table.add_column(name, justify="right")
    table.add_column("caption", overflow="fold")
    table.add_column("of", overflow="fold")
    for number, one in enumerate(caption.evidence, 1):
        figures = (one.score, one.consensus, one.cross, one.similarity)
        table.add_row(
            str(number),
            *("" if value is None else f"{value:.3f}" for value in figures),
            Text(one.text),  # what people wrote is no markup
            Text(one.item.uri or one.item.key),
        )
    console.print(table)
    console.print(
        "agrees: how far the other candidates say the same, 0 to 1; fits: cosine of caption and medium in the joint "
        "space; likeness: of the item that it is of, by the encoders alone"
    )
