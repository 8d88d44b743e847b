"""Steps: thin stpipe Steps that fetch references, call an algorithm and write down what was done."""
