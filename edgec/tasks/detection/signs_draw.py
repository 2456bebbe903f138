"""The faces of the built-in traffic signs, drawn as RGBA."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

SIDE = 160  # pixels of a finished face
OVER = 2  # drawn this much larger, then shrunk
RED, BLUE, WHITE, BLACK, YELLOW = (190, 20, 30), (20, 70, 170), (245, 245, 245), (25, 25, 25), (245, 190, 20)
Colour = tuple[int, int, int]


class Face:
    """A drawing board in units of the sign's side, 0..1."""

    def __init__(self) -> None:
        self.size = SIDE * OVER
        self.rgba = np.zeros((self.size, self.size, 4), np.uint8)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        scaled = np.round(np.array(points) * self.size).astype(np.int32)
        cv2.fillPoly(self.rgba, [scaled], (*colour, 255), cv2.LINE_AA)

    def regular(
        self, corners: int, radius: float, colour: Colour, turn: float = 0.0, cy: float = 0.5
    ) -> None:
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        self.polygon([(0.5 + radius * np.sin(a), cy - radius * np.cos(a)) for a in angles], colour)

    def circle(self, radius: float, colour: Colour) -> None:
        middle = self.size // 2
        cv2.circle(self.rgba, (middle, middle), round(radius * self.size), (*colour, 255), -1, cv2.LINE_AA)

    def text(self, text: str, height: float, colour: Colour, weight: float = 0.05) -> None:
        thick = max(1, round(weight * self.size))
        (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)
        scale = min(height * self.size / h, 0.78 * self.size / w)
        at = (round(self.size / 2 - w * scale / 2), round(self.size / 2 + h * scale / 2))
        cv2.putText(self.rgba, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (*colour, 255), thick, cv2.LINE_AA)


def _stop(face: Face, rng: np.random.Generator) -> None:
    face.regular(8, 0.5, WHITE, np.pi / 8)
    face.regular(8, 0.46, RED, np.pi / 8)
    face.text("STOP", 0.3, WHITE)


def _yield(face: Face, rng: np.random.Generator) -> None:
    face.polygon([(0.02, 0.08), (0.98, 0.08), (0.5, 0.94)], RED)
    face.polygon([(0.2, 0.19), (0.8, 0.19), (0.5, 0.72)], WHITE)


def _no_entry(face: Face, rng: np.random.Generator) -> None:
    face.circle(0.49, WHITE)
    face.circle(0.46, RED)
    face.polygon([(0.17, 0.41), (0.83, 0.41), (0.83, 0.59), (0.17, 0.59)], WHITE)


def _speed_limit(face: Face, rng: np.random.Generator) -> None:
    face.circle(0.49, RED)
    face.circle(0.38, WHITE)
    face.text(str(int(rng.choice([20, 30, 40, 50, 60, 70, 80, 90]))), 0.34, BLACK, 0.055)


def _mandatory(face: Face, rng: np.random.Generator) -> None:
    face.circle(0.49, WHITE)
    face.circle(0.47, BLUE)
    arrow = [(0.44, 0.8), (0.56, 0.8), (0.56, 0.45), (0.7, 0.45), (0.5, 0.18), (0.3, 0.45), (0.44, 0.45)]
    turn = float(rng.choice([0.0, np.pi / 2, -np.pi / 2]))
    c, s = np.cos(turn), np.sin(turn)
    face.polygon(
        [(0.5 + (x - 0.5) * c - (y - 0.5) * s, 0.5 + (x - 0.5) * s + (y - 0.5) * c) for x, y in arrow], WHITE
    )


def _priority(face: Face, rng: np.random.Generator) -> None:
    face.regular(4, 0.5, BLACK)
    face.regular(4, 0.48, WHITE)
    face.regular(4, 0.35, YELLOW)


def _warning(face: Face, rng: np.random.Generator) -> None:
    face.polygon([(0.02, 0.92), (0.98, 0.92), (0.5, 0.06)], RED)
    face.polygon([(0.18, 0.82), (0.82, 0.82), (0.5, 0.25)], WHITE)
    face.polygon([(0.47, 0.42), (0.53, 0.42), (0.515, 0.65), (0.485, 0.65)], BLACK)
    face.polygon([(0.48, 0.7), (0.52, 0.7), (0.52, 0.76), (0.48, 0.76)], BLACK)


def _crossing(face: Face, rng: np.random.Generator) -> None:
    face.polygon([(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)], WHITE)
    face.polygon([(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)], BLUE)
    face.polygon([(0.5, 0.16), (0.88, 0.84), (0.12, 0.84)], WHITE)
    face.polygon(
        [
            (0.46, 0.38),
            (0.54, 0.38),
            (0.56, 0.58),
            (0.63, 0.78),
            (0.56, 0.78),
            (0.5, 0.62),
            (0.44, 0.78),
            (0.37, 0.78),
            (0.44, 0.58),
        ],
        BLACK,
    )


SIGNS: dict[str, Callable[[Face, np.random.Generator], None]] = {
    "stop": _stop,
    "yield": _yield,
    "no_entry": _no_entry,
    "speed_limit": _speed_limit,
    "mandatory": _mandatory,
    "priority": _priority,
    "warning": _warning,
    "crossing": _crossing,
}


def draw_sign(name: str, rng: np.random.Generator) -> np.ndarray:
    """A face of the named sign, RGBA uint8 [SIDE, SIDE, 4]; `rng` chooses its digits or arrow."""
    face = Face()
    SIGNS[name](face, rng)
    return cv2.resize(face.rgba, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
