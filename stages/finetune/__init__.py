"""The backbone's last layers trained with the readouts."""
