"""`resolver du`: what takes the room, and who shares it with whom."""

from resolver.cli import options


@options.command
def du(common: options.Common, no_trunc: options.NoTrunc = False) -> None:
    """Say what the store takes, image by image.

    OWN is what would be free without the image; SHARED is needed by others too.

    \b
      resolver du
      resolver du --json
    """
    from resolver.cli.work import work

    with work(common) as (session, output):
        output.tell(session.usage(), common.form, full=no_trunc)
