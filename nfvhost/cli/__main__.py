"""`python -m nfvhost.cli`: the command line, for processes that nfvhost starts of itself."""

from nfvhost.cli.app import main

main()
