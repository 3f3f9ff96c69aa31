"""Window on the screen that shows pictures one after another, by Tk."""

from __future__ import annotations

import os
import platform

import numpy as np
from PIL import Image

from htt.errors import ConfigError


class Window:
    """Window that is closed by its button, by q or by Escape."""

    def __init__(self, title: str) -> None:
        """Open the window.

        Raises:
            ConfigError: there is no display, or Python has no Tk.
        """
        if platform.system() == "Linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ConfigError(
                "--show needs a display, and this session has none (DISPLAY is not set). Leave --show out: a video "
                "then gets an overlay.mp4, and a camera's actions are printed."
            )
        try:
            import tkinter as tk

            from PIL import ImageTk

            self._root = tk.Tk()
        except ImportError as error:
            raise ConfigError(
                f"--show needs Python's Tk: {error}. Install it, on Debian: apt install python3-tk."
            ) from error
        except tk.TclError as error:
            raise ConfigError(f"--show cannot open a window: {error}. Check DISPLAY, or leave --show out.") from error
        self._photo_of = ImageTk.PhotoImage
        self._root.title(title)
        self._label = tk.Label(self._root, borderwidth=0)
        self._label.pack()
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda _: self.close())

    def show(self, image: np.ndarray) -> bool:
        """Show an image [h w 3], and return whether the window is still open."""
        if self._open:
            self._photo = self._photo_of(Image.fromarray(image))  # Tk shows only images that somebody keeps
            self._label.configure(image=self._photo)
            self._root.update()
        return self._open

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            self._root.destroy()
