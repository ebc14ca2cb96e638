"""Public zoos by name of their recipe.

source = recipes.open_zoo("dws_inr", "mnist-inrs")
source.write(Path("zoo"), skip_bad=False, on_file=lambda: None)
"""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalegmn_jax.base import InputError
from scalegmn_jax.zoo.public.ray_tune import model_zoo
from scalegmn_jax.zoo.public.sirens import dws_inr, nfn_inr
from scalegmn_jax.zoo.public.source import Source
from scalegmn_jax.zoo.public.tree import folder
from scalegmn_jax.zoo.public.vectorized import field_arena
from scalegmn_jax.zoo.public.wild_park import wild_park

RECIPES: dict[str, Callable[..., Source]] = {
  "dws_inr": dws_inr,
  "nfn_inr": nfn_inr,
  "model_zoo": model_zoo,
  "field_arena": field_arena,
  "wild_park": wild_park,
  "folder": folder,
}
"""{name: (path, **options) -> the networks}."""


def options_of(recipe: str) -> dict[str, inspect.Parameter]:
  """The options of a recipe by name.

  Raises:
    InputError: no such recipe.
  """
  if recipe not in RECIPES:
    raise InputError(f"recipe {recipe!r}: expected one of {', '.join(RECIPES)}")
  parameters = inspect.signature(RECIPES[recipe]).parameters
  return {name: p for name, p in parameters.items() if name != "path"}


def open_zoo(
  recipe: str, path: str | os.PathLike[str], **options: Any
) -> Source:
  """The networks of a public zoo.

  Args:
    recipe: a key of `RECIPES`.
    path: the folder or file, unpacked.
    **options: of the recipe.

  Raises:
    InputError: no such recipe, an option that it does not have or needs, or
      what the recipe refuses.
  """
  known = options_of(recipe)
  for name in options:
    if name not in known:
      raise InputError(
        f"{recipe} has no option {name}, but {', '.join(known) or 'none'}"
      )
  for name, parameter in known.items():
    if parameter.default is parameter.empty and name not in options:
      raise InputError(f"{recipe} needs the option {name}")
  return RECIPES[recipe](Path(path), **options)
