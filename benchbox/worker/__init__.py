"""The measured side: model, data, loop. The only room that imports torch or deepspeed."""
