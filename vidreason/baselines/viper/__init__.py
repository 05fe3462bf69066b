"""Program synthesis after ViperGPT: a language model writes a program, which looks at the video."""
