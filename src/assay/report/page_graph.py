"""Where the boxes and arrows of the report's pipeline drawing stand: a layered layout, one band per line of work.

The steps are those of Sugiyama, Tagawa and Toda (1981): layers by longest path, points in place of arrows that pass a
layer, order by barycentre, then heights as near to the neighbours' as the order allows (isotonic regression).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy.optimize import isotonic_regression

from assay.report.page_pipeline import Line, Stage

BOX, GAP, COLUMN_GAP, PAD, LABEL = 42.0, 12.0, 20.0, 14.0, 30.0
CHARACTER = 6.65  # width of a monospaced character at 11px


@dataclass(frozen=True)
class Box:
    """A stage: its left upper corner, its part of the time of all stages and how strongly it is coloured (0..1)."""

    stage: Stage
    x: float
    y: float
    share: float
    heat: float


@dataclass(frozen=True)
class Band:
    """One line of work: its strip of the drawing, boxes, and arrows as SVG path data (line, head)."""

    line: Line
    y: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Drawing:
    """The whole drawing in pixels; ``box`` is the size of every box."""

    width: float
    height: float
    box: tuple[float, float]
    bands: tuple[Band, ...]


def draw(lines: Sequence[Line]) -> Drawing:
    """Lay out every line below the one before it."""
    stages = [stage for line in lines for stage in line.stages]
    width = CHARACTER * max((len(stage.name) for stage in stages), default=0) + 14
    total, largest = sum(stage.wall for stage in stages), max((stage.wall for stage in stages), default=0.0)
    bands: list[Band] = []
    y = right = 0.0
    for line in lines:
        layout = _Layout(line, width)
        middles = layout.middles()
        top = min(middle - layout.height(node) / 2 for node, middle in middles.items()) - LABEL
        bottom = max(middle + layout.height(node) / 2 for node, middle in middles.items()) + PAD
        middles = {node: middle - top + y for node, middle in middles.items()}
        boxes = tuple(
            Box(
                stage=stage,
                x=layout.x(index),
                y=round(middles[index] - BOX / 2, 1),
                share=stage.wall / total if total else 0.0,
                heat=round((stage.wall / largest) ** 0.5, 2) if largest else 0.0,
            )
            for index, stage in enumerate(line.stages)
        )
        bands.append(Band(line=line, y=y, height=bottom - top, boxes=boxes, arrows=layout.arrows(middles)))
        right = max(right, *(box.x + width + PAD for box in boxes))
        y += bottom - top + GAP
    return Drawing(width=right, height=max(y - GAP, 0.0), box=(width, BOX), bands=tuple(bands))


Node = int | tuple[int, int, int]  # a stage, or where the arrow between two stages passes a layer


class _Layout:
    """One line of work: layers from left to right, each an ordered list of stages and passing points."""

    def __init__(self, line: Line, width: float) -> None:
        self.width = width
        self.layer = _layers(len(line.stages), line.arrows)
        self.chains = [self._chain(first, second) for first, second in line.arrows]
        self.layers: list[list[Node]] = [[] for _ in range(max(self.layer.values()) + 1)]
        self.links = nx.Graph()
        for node in [*range(len(line.stages)), *(node for chain in self.chains for node in chain[1:-1])]:
            self.links.add_node(node)
            self.layers[self._layer(node)].append(node)
        for chain in self.chains:
            nx.add_path(self.links, chain)
        for sweep in range(8):
            self._order(backwards=sweep % 2 == 1)

    def _chain(self, first: int, second: int) -> list[Node]:
        return [first, *((first, second, at) for at in range(self.layer[first] + 1, self.layer[second])), second]

    def _layer(self, node: Node) -> int:
        return self.layer[node] if isinstance(node, int) else node[2]

    def _order(self, *, backwards: bool) -> None:
        """Sort every layer by the mean place of its neighbours in the layer before it."""
        order = range(len(self.layers))
        for at in reversed(order) if backwards else order:
            before = at + 1 if backwards else at - 1
            if before not in order:
                continue
            place = {node: index for index, node in enumerate(self.layers[before])}
            means = {}
            for index, node in enumerate(self.layers[at]):
                near = [place[other] for other in self.links[node] if other in place]
                means[node] = float(np.mean(near)) if near else float(index)
            self.layers[at].sort(key=lambda node: means[node])

    def height(self, node: Node) -> float:
        """Of a box; a passing arrow needs little."""
        return BOX if isinstance(node, int) else 2.0

    def x(self, node: Node) -> float:
        """Left edge of the node's column."""
        return round(PAD + self._layer(node) * (self.width + COLUMN_GAP), 1)

    def middles(self) -> dict[Node, float]:
        """Height of the middle of every node: near its neighbours', in the order of its layer, without overlaps."""
        middle = {node: index * (BOX + GAP) for nodes in self.layers for index, node in enumerate(nodes)}
        for sweep in range(12):
            for nodes in self.layers if sweep % 2 == 0 else reversed(self.layers):
                heights = np.array([self.height(node) for node in nodes])
                offsets = np.cumsum(np.append(0.0, (heights[:-1] + heights[1:]) / 2 + GAP))
                near = [[middle[other] for other in self.links[node]] or [middle[node]] for node in nodes]
                wanted = np.array([np.mean(values) for values in near]) - offsets
                middle.update(zip(nodes, (isotonic_regression(wanted).x + offsets).tolist(), strict=True))
        return middle

    def arrows(self, middle: dict[Node, float]) -> tuple[tuple[str, str], ...]:
        """SVG path data of every arrow (curves between columns, straight where it passes one) and of its head."""
        paths = []
        for chain in self.chains:
            x, y = self.x(chain[0]) + self.width, middle[chain[0]]
            path = f"M{x:.1f} {y:.1f}"
            for node in chain[1:]:
                left, down, bend = self.x(node), middle[node], COLUMN_GAP * 0.55
                end = left - (6 if isinstance(node, int) else 0)  # room for the arrow's head
                path += f"C{x + bend:.1f} {y:.1f} {end - bend:.1f} {down:.1f} {end:.1f} {down:.1f}"
                x, y = left, down
                if not isinstance(node, int):
                    x += self.width
                    path += f"H{x:.1f}"
            paths.append((path, f"M{left:.1f} {y:.1f}l-7 -3.5v7z"))
        return tuple(paths)


def _layers(count: int, arrows: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Longest path from a start; what nothing feeds stands right before what it feeds."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(arrows)
    layer = {node: at for at, nodes in enumerate(nx.topological_generations(graph)) for node in nodes}
    for node in range(count):
        if graph.in_degree(node) == 0 and graph.out_degree(node):
            layer[node] = min(layer[after] for after in graph.successors(node)) - 1
    return layer
