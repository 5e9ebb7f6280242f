# CLiFT-ASR: a HuBERT encoder and a pruned transducer, fine-tuned on Tai-lo first, then on Han-Lo text.

recipe_options() {
  scripts=(tailo hanlo) # one byte-level BPE model each: phase 1 and phase 2
}

recipe_stages() { :; }
