"""What a head can be made of: modules from windows of feature maps to values."""
