"""`python -m mmvae` is the command `mmvae`."""

from mmvae.cli import main

if __name__ == "__main__":
    main()
