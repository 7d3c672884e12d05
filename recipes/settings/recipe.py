"""The settings of a GRPO recipe, read, checked and shown."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, overload

from aflow_ops.operators import load_operators
from recipes.settings.arguments import RecipeArguments
from recipes.settings.checks import check_settings
from recipes.settings.effective import print_effective_values
from recipes.settings.libraries import quiet_libraries
from recipes.settings.parse import Arguments, R, parse_arguments


@overload
def recipe_arguments(
    default_config: str | Path,
    description: str | None,
    *,
    domains: Collection[str],
    defaults: Mapping[str, Any] | None = None,
    needs_key: bool = True,
) -> Arguments[RecipeArguments]: ...


@overload
def recipe_arguments(
    default_config: str | Path,
    description: str | None,
    *,
    domains: Collection[str],
    defaults: Mapping[str, Any] | None = None,
    recipe_class: type[R],
    needs_key: bool = True,
) -> Arguments[R]: ...


def recipe_arguments(
    default_config: str | Path,
    description: str | None,
    *,
    domains: Collection[str],
    defaults: Mapping[str, Any] | None = None,
    recipe_class: type[R] = RecipeArguments,  # type: ignore[assignment]
    needs_key: bool = True,
) -> Arguments[R]:
    """Read what a recipe is told on its command line, refuse what cannot work, and print what it comes to.

    Operators of its user's own (`--operators`) are known afterwards.

    Args:
        default_config (`str` or `Path`): the YAML used when `--config` is not given: a name in `recipes/configs/`, or
            the path of one of your own.
        description (`str`, *optional*): first lines of `--help`; the recipe's docstring.
        domains (`Collection[str]`): those that the recipe is for; a mix with another one is refused.
        defaults (`Mapping[str, Any]`, *optional*): the recipe's own defaults, by flag; the YAML and flags win.
        recipe_class (`type`): a dataclass that adds flags of the recipe's own to `RecipeArguments`.
        needs_key (`bool`): as for `parse_arguments`.

    Raises:
        UsageError: bad flags, no key, a missing file or package, an operator that is none.
    """
    quiet_libraries()
    args = parse_arguments(
        default_config, description, recipe_class=recipe_class, defaults=defaults, needs_key=needs_key
    )
    load_operators(args.recipe.operators)
    check_settings(args, domains)
    print_effective_values(args)
    return args
