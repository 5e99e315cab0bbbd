"""`python -m brainseg_keras`: the command line, where its script is not on the path."""

from brainseg_keras.cli import main

if __name__ == "__main__":
    main()
