"""``python -m cli`` is ``lossbook``."""

from cli.main import main

if __name__ == "__main__":
    main()
